"""Run a module as a script where nothing but Python, NumPy, torch and torchvision is installed.

    python -m tests.gpu.bare MODULE [ARGUMENT ...]

Imports of what else the package depends on fail, as on a machine that lacks it.
"""

import re
import runpy
import sys
import tomllib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Pillow comes with torchvision.
PRESENT = {"numpy", "pillow", "torch", "torchvision"}
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}


def missing() -> set[str]:
    """Modules of the package's other dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=~\[; ]", line)[0] for line in project["dependencies"]}
    return {MODULES.get(name, name) for name in names - PRESENT}


class WithoutModules:
    """Finds what other finders find, except for some modules."""

    def __init__(self, names: set[str], finders: Sequence[Any]) -> None:
        self.names = names
        self.finders = tuple(finders)

    def find_spec(self, name: str, *where: Any) -> ModuleSpec | None:
        if name.partition(".")[0] in self.names:
            return None
        found = (finder.find_spec(name, *where) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)


if __name__ == "__main__":
    sys.meta_path[:] = [WithoutModules(missing(), sys.meta_path)]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
