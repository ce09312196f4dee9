"""Reached definitions and imported files, of synthetic packages."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preddiff.storage.code import Package, imported_files

# Modules by name, or one module `a`, as text.
Files = dict[str, str]


def _toy(folder: Path, files: Files) -> Package:
    """Write a package `toy`; folders get an empty __init__ unless they have one."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.joinpath("__init__.py").touch()
        path.write_text(text)
    return Package(folder / "toy")


# The text of a module `a` with a root `f`, further files, and what is reached beside `f` itself.
REACHED: dict[str, tuple[str, Files, set[str]]] = {
    "function": ("def f(): g()\ndef g(): ...\ndef h(): ...", {}, {"a:g"}),
    "recursion of two": ("def f(): g()\ndef g(): f()", {}, {"a:g"}),
    "constant": ("X = Y = 1\nZ = 2\ndef f(): return X", {}, {"a:X"}),
    "constant made of others": ("A = 1\nB = A + 1\ndef f(): return B", {}, {"a:A", "a:B"}),
    "constant in steps": ("A = {}\nA |= g\ndef f(): A\ndef g(): ...", {}, {"a:A", "a:g"}),
    "unpacked constant": ("A, (B, C) = 1, (2, 3)\ndef f(): return C", {}, {"a:C"}),
    "default argument": ("X = 1\ndef f(x=X): ...", {}, {"a:X"}),
    "default of a keyword": ("X = 1\ndef f(*, x=X): ...", {}, {"a:X"}),
    "decorator": ("def d(g): return g\n@d\ndef f(): ...", {}, {"a:d"}),
    "decorator's arguments": ("X = 1\ndef d(x): ...\n@d(X)\ndef f(): ...", {}, {"a:d", "a:X"}),
    "class with bases": (
        "def f(): C.x\nclass A: ...\nclass B(A, metaclass=M): ...\n"
        "class M(type): ...\nclass C(B): ...",
        {},
        {"a:A", "a:B", "a:C", "a:M"},
    ),
    "methods of a class": (
        "def f(): A()\nclass A:\n  x = X\n  def m(self): return g()\nX = 1\ndef g(): ...",
        {},
        {"a:A", "a:X", "a:g"},
    ),
    "types in a class": (
        "def f(): A\nclass A:\n  x: 'B'\n  y: C\nclass B: ...\nC = int",
        {},
        {"a:A", "a:B", "a:C"},
    ),
    "types of parameters": ("class A: ...\ndef f(x: A) -> A:\n  y: A = x\n  return y", {}, set()),
    "shadowed by a parameter": ("def g(): ...\ndef f(g): return g()", {}, set()),
    "shadowed by a variable": ("def g(): ...\ndef f():\n  for g in (): g()", {}, set()),
    "shadowed in a lambda": ("def g(): ...\ndef f(): return lambda g: g()", {}, set()),
    "shadowed in a comprehension": ("def g(): ...\ndef f(): return [g for g in ()]", {}, set()),
    "not shadowed beside one": ("def g(): ...\ndef f(): return [g for g in ()], g", {}, {"a:g"}),
    "not shadowed by a class": (
        "def g(): ...\ndef f():\n  class A:\n    g = 1\n    def m(self): return g()\n  return A",
        {},
        {"a:g"},
    ),
    "global": ("X = 1\ndef f():\n  global X\n  X = 2", {}, {"a:X"}),
    "messages": ("def f():\n  print(g())\n  raise E(g())\ndef g(): ...", {}, set()),
    "import of a name": ("from toy.b import g\ndef f(): g()", {"b.py": "def g(): ..."}, {"b:g"}),
    "import by another name": (
        "from toy.b import g as h\ndef f(): h()",
        {"b.py": "def g(): ...\ndef h(): ..."},
        {"b:g"},
    ),
    "import of a module": (
        "from toy import b\ndef f(): b.g()",
        {"b.py": "def g(): ...\ndef h(): ..."},
        {"b:g"},
    ),
    "import of a module by another name": (
        "import toy.inner.b as c\ndef f(): c.A.m()",
        {"inner/b.py": "class A: ...\ndef m(): ..."},
        {"inner.b:A"},
    ),
    "import of a dotted name": (
        "import toy.inner.b\ndef f(): toy.inner.b.g.x.y()",
        {"inner/b.py": "def g(): ...\ndef x(): ..."},
        {"inner.b:g"},
    ),
    "relative imports": (
        "from .inner import b\nfrom .inner.b import h\ndef f(): b.g(h)",
        {"inner/b.py": "from ..c import x\ndef g(): x()\ndef h(): ...", "c.py": "def x(): ..."},
        {"inner.b:g", "inner.b:h", "c:x"},
    ),
    "import in a function": (
        "def f():\n  from toy import b\n  def inner(): return b.g\n  return inner",
        {"b.py": "def g(): ...\ndef h(): ..."},
        {"b:g"},
    ),
    "import that is not used": (
        "from toy import b\ndef f():\n  from toy.b import g",
        {"b.py": "def g(): ..."},
        set(),
    ),
    "import for types": (
        "if TYPE_CHECKING:\n  from toy.b import A\ndef f(x: A): ...",
        {"b.py": "class A: ..."},
        set(),
    ),
    "import from one of two": (
        "try:\n  from toy.b import g\nexcept ImportError:\n  from toy.c import g\ndef f(): g()",
        {"b.py": "def g(): ...", "c.py": "def g(): ..."},
        {"b:g", "c:g"},
    ),
    "import or another definition": (
        "try:\n  from toy.b import g\nexcept ImportError:\n  g = None\ndef f(): g()",
        {"b.py": "def g(): ..."},
        {"b:g", "a:"},
    ),
    "import of an import": (
        "from toy.inner import g\ndef f(): g()",
        {"inner/__init__.py": "from .b import h as g", "inner/b.py": "def h(): ..."},
        {"inner.b:h"},
    ),
    "import of an import that bears its module's name": (
        "from toy import b\ndef f(): b.x",
        {"__init__.py": "from .b import b", "b.py": "class b: ...\nx = 1"},
        {"b:b"},
    ),
    "module as a value": (
        "from toy import b\ndef f(name): return getattr(b, name)",
        {"b.py": "def g(): ...\nX = 1"},
        {"b:g", "b:X"},
    ),
    "attribute of a local variable": (
        "from toy import b\ndef f(b): return b.g()",
        {"b.py": "def g(): ..."},
        set(),
    ),
    "attribute that every module has": ("import toy\ndef f(): return toy.__file__", {}, set()),
    "module without numbers": (
        "from toy.progress import progress\nfrom toy import errors\ndef f(): progress(errors.A)",
        {"progress.py": "def progress(x): ...", "errors.py": "class A: ..."},
        set(),
    ),
    "import through a module without numbers": (
        "from toy.errors import g\ndef f(): g()",
        {"errors.py": "from toy.b import g", "b.py": "def g(): ..."},
        {"b:g"},
    ),
    "what the module does when it is imported": (
        "def f(): ...\nT = {}\nT['a'] = g\ndef g(): ...\nprint(T)",
        {},
        {"a:", "a:T", "a:g"},
    ),
    "what a package does when it is imported": (
        "from toy.inner.b import g\ndef f(): g()",
        {"inner/__init__.py": "h()\ndef h(): ...", "inner/b.py": "def g(): ..."},
        {"inner.b:g", "inner:", "inner:h"},
    ),
    "definition on a condition": (
        "if g():\n  def h(): ...\ndef f(): h()\ndef g(): ...",
        {},
        {"a:", "a:g"},
    ),
    "what is done as a script only": (
        "def f(): ...\ndef g(): ...\nif __name__ == '__main__':\n  g()",
        {},
        set(),
    ),
}


@pytest.mark.parametrize("case", REACHED)
def test_definitions_are_reached(case: str, tmp_path: Path) -> None:
    text, files, expected = REACHED[case]
    found = _toy(tmp_path, {"a.py": text, **files}).definitions(["toy.a:f"])
    assert set(found) == {"toy.a:f", *(f"toy.{name}" for name in expected)}


def test_roots_are_definitions_modules_or_packages(tmp_path: Path) -> None:
    toy = _toy(
        tmp_path,
        {"a.py": "def f(): ...\nX = 1", "b/__init__.py": "Y = 1", "b/c.py": "class A: ..."},
    )
    assert set(toy.definitions(["toy.a"])) == {"toy.a:f", "toy.a:X"}
    assert set(toy.definitions(["toy.b"])) == {"toy.b:Y", "toy.b.c:A"}
    assert set(toy.definitions(["toy.b.c:A.method", "toy.a:X"])) == {"toy.b.c:A", "toy.a:X"}
    assert set(toy.definitions(["toy"])) == {"toy.a:f", "toy.a:X", "toy.b:Y", "toy.b.c:A"}


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("toy.a:g", "uses g of toy.a, which has no such name"),
        ("toy.b", "uses toy.b, which is no module"),
        ("toy.a:f", "toy.a:f uses missing of toy.c, which has no such name"),
        ("toy.errors:A", "toy.errors makes no numbers"),
    ],
)
def test_what_does_not_exist_is_refused(root: str, message: str, tmp_path: Path) -> None:
    text = "from toy.c import missing\ndef f(): missing()"
    toy = _toy(tmp_path, {"a.py": text, "c.py": "", "errors.py": "class A: ..."})
    with pytest.raises(ValueError, match=message):
        toy.definitions([root])


# Two versions of a module `a` whose root `f` does another thing.
CHANGED = {
    "import from elsewhere": (
        "from toy.b import g\nfrom toy import b, c\ndef f(): return g, b.g, c.g",
        "from toy.c import g\nfrom toy import b, c\ndef f(): return g, b.g, c.g",
    ),
    "import from another library": (
        "import numpy as np\ndef f(): return np.sum",
        "import torch as np\ndef f(): return np.sum",
    ),
    "names exchanged": (
        "from m import x as p, y as q\ndef f(): return p - q",
        "from m import y as p, x as q\ndef f(): return p - q",
    ),
    "built-in name defined": (
        "def f(): return sum(())",
        "def f(): return sum(())\ndef sum(x): ...",
    ),
    "order of steps": (
        "X = [1]\nX += [2]\nX *= 2\ndef f(): return X",
        "X = [1]\nX *= 2\nX += [2]\ndef f(): return X",
    ),
    "done when imported": ("def f(): ...", "import m\nm.x = 1\ndef f(): ..."),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_names_stand_for_counts(case: str, tmp_path: Path) -> None:
    both = {"b.py": "def g(): ...", "c.py": "def g(): ..."}
    before, after = (
        _toy(tmp_path / str(number), {"a.py": text, **both}).definitions(["toy.a:f"])
        for number, text in enumerate(CHANGED[case])
    )
    assert before != after


# Files that a user's file imports: against those that Python loads.

NAMES = ["one", "two", "package", "package.three", "package.four", "package.inner.five"]
PLACES = {
    "main": "main.py",
    **{name: f"{name.replace('.', '/')}.py" for name in NAMES},
    "package": "package/__init__.py",
    "package.inner": "package/inner/__init__.py",
}


@st.composite
def _imports(draw: st.DrawFn, module: str) -> str:
    """A statement in a module that imports another one, or a value of it."""
    other = draw(st.sampled_from(NAMES))
    above, _, name = other.rpartition(".")
    forms = [f"import {other}", f"import {other} as x", f"from {other} import VALUE", "import json"]
    if above:
        forms.append(f"from {above} import {name}")
    dots = "." * (module.count(".") + (module in ("package", "package.inner")))
    if dots and above:
        inside = other.removeprefix("package.")
        forms.append(f"from {dots}{inside} import VALUE")
        forms += [f"from {dots} import {name}"] if name == inside else []
    form = draw(st.sampled_from(forms))
    return draw(st.sampled_from([form, f"if VALUE:\n    {form}", f"def f():\n    {form}\nf()"]))


@st.composite
def _projects(draw: st.DrawFn) -> Files:
    return {
        place: "\n".join(["VALUE = 1", *draw(st.lists(_imports(module), max_size=2)), ""])
        for module, place in PLACES.items()
    }


@settings(max_examples=25, deadline=None)
@given(_projects())
def test_imported_files_are_those_that_python_loads(
    tmp_path_factory: pytest.TempPathFactory, project: Files
) -> None:
    folder = tmp_path_factory.mktemp("project").resolve()
    for name, text in project.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    loaded = (
        "import sys, runpy; sys.path.insert(0, sys.argv[1]);"
        "runpy.run_path(sys.argv[1] + '/main.py');"
        "print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", loaded, str(folder)], capture_output=True, text=True, check=True
    )
    expected = {Path(file) for file in run.stdout.split() if Path(file).is_relative_to(folder)}
    assert set(imported_files(folder / "main.py").values()) == expected | {folder / "main.py"}


def test_imports_that_lead_nowhere_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    main = tmp_path / "deep" / "main.py"
    # Of the same names, but not those that are imported.
    (tmp_path / "outside.py").touch()
    (tmp_path / "deep" / "outside.py").touch()
    main.write_text("import numpy, missing\nfrom .. import outside\nfrom ..outside import x\n")
    assert imported_files(main) == {"main.py": main}


def test_a_package_comes_before_a_module_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    for name in ("both.py", "both/__init__.py", "main.py"):
        (tmp_path / name).touch()
    (tmp_path / "main.py").write_text("import both")
    assert set(imported_files(tmp_path / "main.py")) == {"main.py", "both/__init__.py"}
