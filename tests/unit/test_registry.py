"""Registries: kinds are found in their files, and nowhere else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import preddiff
from preddiff.classifiers.base import CLASSIFIERS
from preddiff.datasets.base import DATASETS
from preddiff.figures.base import FIGURES
from preddiff.methods.base import METHODS
from preddiff.registry import Registry
from preddiff.samplers.base import SAMPLERS

PACKAGE = Path(str(preddiff.__file__)).parent
ALL: dict[str, Registry] = {
    "samplers": SAMPLERS,
    "methods": METHODS,
    "classifiers": CLASSIFIERS,
    "datasets": DATASETS,
    "figures": FIGURES,
}


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_each_kind_has_a_module_of_its_own(registry: Registry) -> None:
    kinds = list(registry)
    assert len(kinds) >= 3
    assert len({kind.__module__ for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.__module__.startswith(f"{registry.package}.")
        assert registry[registry.name_of(kind)] is kind


def test_a_new_file_is_a_new_kind(tmp_path: Path) -> None:
    package = tmp_path / "shapes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(
        "from preddiff.registry import Registry\nSHAPES = Registry('shapes')\n"
    )
    kind = (
        "from typing import Literal\nfrom pydantic import BaseModel\n"
        "from shapes.base import SHAPES\n"
        "@SHAPES.register\nclass Shape(BaseModel):\n    kind: Literal['{}']\n"
    )
    for name in ("square", "circle"):
        (package / f"{name}.py").write_text(kind.format(name))
    code = "from shapes.base import SHAPES; print(SHAPES.names())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['circle', 'square']"


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
    ("evidence",),
    ("settings/base", "storage"),
    ("user_code", "devices", "datasets"),
    ("samplers", "classifiers"),
    ("engines",),
    ("methods",),
    ("evaluation",),
    ("figures",),
    ("settings",),
    ("paths",),
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
