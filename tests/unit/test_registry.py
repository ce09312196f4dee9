"""Registries: kinds are found in their files, and nowhere else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.datasets.base import DATASETS
from preddiff.figures.base import FIGURES
from preddiff.methods.base import METHODS
from preddiff.registry import Registry
from preddiff.samplers.base import SAMPLERS

ALL: dict[str, Registry[Any]] = {
    "samplers": SAMPLERS,
    "methods": METHODS,
    "classifiers": CLASSIFIERS,
    "datasets": DATASETS,
    "figures": FIGURES,
}


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_each_kind_has_a_module_of_its_own(registry: Registry[Any]) -> None:
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


def test_a_part_of_the_kinds_has_no_default() -> None:
    direct = METHODS.only(lambda method: not method.redraws_windows)
    assert {"module", "sensitivity"} <= {*direct.names()}
    assert direct.names() == [name for name in METHODS.names() if name != METHODS.default]
    assert direct.default is None and METHODS.default == "prediction-difference"
    assert METHODS.tag({}) == METHODS.default and direct.tag({}) is None


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        ({"table": "a.tsv", "file": "gm"}, "table"),
        ({"phantom": {}, "table": None}, "phantom"),
        ({"images": "a", "digits": {}}, None),
        ({}, None),
    ],
)
def test_datasets_are_told_by_where_their_items_come_from(settings, source) -> None:
    assert DATASETS.tag(settings) == source
