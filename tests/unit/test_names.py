"""Names of the package: found when they are used, and the same for type checkers."""

import ast
import importlib
from pathlib import Path

import pytest

import preddiff


def stub() -> dict[str, str]:
    """Modules that the names come from, as type checkers see them."""
    tree = ast.parse(Path(preddiff.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_names_are_those_of_the_stub() -> None:
    assert sorted(preddiff.__all__) == sorted(stub())
    assert {*preddiff.__all__} <= {*dir(preddiff)}


@pytest.mark.parametrize(("name", "module"), stub().items())
def test_a_name_is_what_its_module_defines(name: str, module: str) -> None:
    assert getattr(preddiff, name) is getattr(importlib.import_module(f"preddiff.{module}"), name)


def test_other_names_are_not_found() -> None:
    with pytest.raises(AttributeError, match="module 'preddiff' has no attribute 'explian'"):
        _ = preddiff.explian
