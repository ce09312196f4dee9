"""Names: what is bound and used, against Python's own symbol tables."""

import ast
import importlib.util
import symtable
from collections.abc import Iterator
from pathlib import Path

import pytest

import preddiff
from preddiff.storage.python_names import attribute, bindings, dotted, imported, used_names

PACKAGE = Path(preddiff.__file__).parent
# Code of many authors, with every kind of scope.
LIBRARY = [
    "argparse", "ast", "bdb", "calendar", "contextlib", "copy", "dataclasses", "datetime",
    "difflib", "dis", "doctest", "enum", "fractions", "functools", "heapq", "imaplib", "inspect",
    "locale", "mailbox", "optparse", "pdb", "pickle", "pydoc", "statistics", "subprocess",
    "tarfile", "textwrap", "threading", "tokenize", "traceback", "turtle", "typing",
    "unittest.mock", "zipfile",
]  # fmt: skip
FILES = [
    *(Path(importlib.util.find_spec(name).origin) for name in LIBRARY),
    *sorted(PACKAGE.rglob("*.py")),
]


def _names(statement: ast.stmt) -> set[str]:
    every = {part.id for part in ast.walk(statement) if isinstance(part, ast.Name)}
    every |= {n for p in ast.walk(statement) if isinstance(p, ast.Global) for n in p.names}
    found = used_names(statement, {name: (f"here:{name}",) for name in every}, "")
    return {name for name, origin in found if origin.startswith("here:")}


def _global_names(text: str) -> set[str]:
    """What Python takes for global in the scopes of some code, and loads at its top."""

    def within(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            used = symbol.is_referenced() if top else symbol.is_global()
            if used:
                yield symbol.get_name()
        for child in table.get_children():
            yield from within(child)

    return set(within(symtable.symtable(text, "test", "exec")))


def _without_annotations(node: ast.AST) -> ast.AST:
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            part.returns = None
        elif isinstance(part, ast.arg):
            part.annotation = None
    return node


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_used_names_are_those_that_python_takes_for_global(file: Path) -> None:
    for statement in ast.parse(file.read_bytes()).body:
        parts = list(ast.walk(statement))
        if any(isinstance(part, ast.ImportFrom) and part.names[0].name == "*" for part in parts):
            continue
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if any(isinstance(part, ast.AnnAssign) for part in parts):
            # Python loads annotations of some variables only.
            continue
        text = ast.unparse(_without_annotations(statement))
        expected, found = _global_names(text), _names(statement)
        if any(isinstance(part, ast.ClassDef) for part in parts):
            # Names that a class binds may be global where its body reads them.
            mangled = {name for name in expected if name.startswith("_")}
            assert found >= expected - mangled
        else:
            assert found == expected


def _used(text: str) -> set[tuple[str, str]]:
    """Names that the last statement uses."""
    tree = ast.parse(text)
    origins = bindings(tree.body, "toy.inner")
    known = {name: found or (f"here:{name}",) for name, found in origins.items()}
    return used_names(tree.body[-1], known, "toy.inner")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import numpy as np\nx = np.random.default_rng(0)", ("np", "numpy:random.default_rng")),
        ("import a.b.c\nx = a.b.c.f()", ("a", "a:b.c.f")),
        ("import a.b.c as d\nx = d.f()", ("d", "a.b.c:f")),
        ("from a.b import c as d\nx = d.f", ("d", "a.b:c.f")),
        ("from . import near\nx = near.f", ("near", "toy.inner:near.f")),
        ("from .near import f\nx = f", ("f", "toy.inner.near:f")),
        ("from .. import far\nx = far", ("far", "toy:far")),
        ("from ..far import f\nx = f", ("f", "toy.far:f")),
        ("def g():\n    from a import b as c\n    return c.d", ("c", "a:b.d")),
        ("def g():\n    import a.b\n    def h():\n        return a.b.c", ("a", "a:b.c")),
    ],
)
def test_names_lead_through_imports(text: str, expected: tuple[str, str]) -> None:
    assert _used(text) == {expected}


def test_imports_in_the_body_of_a_class_count() -> None:
    assert _used("class A:\n    from a import b\n") == {("b", "a:b")}


def test_types_named_by_strings_in_classes_are_used() -> None:
    text = 'class B: pass\nclass A:\n    one: "list[B] | None"\n    two: Literal["not python"]\n'
    assert ("B", "here:B") in _used(text)


def test_a_name_that_is_bound_in_two_ways_stands_for_both() -> None:
    text = "try:\n    from fast import f\nexcept ImportError:\n    from slow import f\n"
    assert bindings(ast.parse(text).body, "") == {"f": ("fast:f", "slow:f")}


def test_importing_everything_is_refused() -> None:
    node = ast.parse("from a import *").body[0]
    assert isinstance(node, ast.ImportFrom)
    with pytest.raises(ValueError, match="import names instead"):
        list(imported(node, "toy"))


@pytest.mark.parametrize(
    ("origin", "rest", "expected"),
    [("a:", "b.c", "a:b.c"), ("a:b", "c", "a:b.c"), ("a:b", "", "a:b"), ("a:", "", "a:")],
)
def test_attributes_follow_a_module_or_a_name(origin: str, rest: str, expected: str) -> None:
    assert attribute(origin, rest) == expected


def test_chains_start_at_names() -> None:
    def chain(text: str) -> str | None:
        return dotted(ast.parse(text, mode="eval").body)

    assert chain("a.b.c") == "a.b.c"
    assert chain("f().b") is None
