"""The house: nobody asks for kinds, data flows one way, rooms are small."""

import ast
from pathlib import Path

import pytest

import preddiff
from tests.unit.test_registry import ALL

PACKAGE = Path(str(preddiff.__file__)).parent


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_nobody_asks_for_a_kind() -> None:
    """Code asks what a kind can do, never `kind == "logistic"`."""
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                asks = any(isinstance(s, ast.Attribute) and s.attr == "kind" for s in sides)
                names = [c for s in sides for c in ast.walk(s) if isinstance(c, ast.Constant)]
                kinds = {name for registry in ALL.values() for name in registry.names()}
                if asks and any(name.value in kinds for name in names):
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []


# Data flows one way: a module imports from its own place and from the left of it.
ORDER = [
    ("errors", "progress", "registry", "windows", "targets"),
    ("evidence", "kriging"),
    ("drawn",),
    ("refinement",),
    ("settings/base", "storage"),
    ("user_code", "devices", "datasets"),
    ("samplers", "classifiers"),
    ("engines",),
    ("methods",),
    ("evaluation",),
    ("figures", "pages"),
    ("settings",),
    ("paths",),
    ("tables",),
    ("explanation",),
    ("workflow", "api"),
    ("stages",),
    ("cli",),
    ("__main__", "__init__"),
]


def place(module: str) -> int:
    path = module.removeprefix("preddiff.").replace(".", "/")
    matches = [
        (len(prefix), rank)
        for rank, prefixes in enumerate(ORDER)
        for prefix in prefixes
        if path == prefix or path.startswith(f"{prefix}/")
    ]
    return max(matches)[1]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("preddiff."):
            found.add(str(node.module))
        elif isinstance(node, ast.ImportFrom) and node.module == "preddiff":
            found |= {f"preddiff.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_data_flows_one_way(path: Path) -> None:
    own = ".".join(["preddiff", *path.relative_to(PACKAGE).with_suffix("").parts])
    own = own.removesuffix(".__init__")
    if own == "preddiff":
        return
    right = {other for other in imported(path) if place(other) > place(own)}
    assert not right


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_stages_do_not_import_each_other(path: Path) -> None:
    if path.parent.name == "stages":
        assert not [other for other in imported(path) if other.startswith("preddiff.stages.")]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and len(node.body) > 1:
            first = node.body[1] if ast.get_docstring(node) else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 60, node.name
