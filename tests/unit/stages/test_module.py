"""Your own networks of volumes as classifiers: what is stored, and what does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preddiff.classifiers.module import ModuleSettings
from preddiff.classifiers.monai import MonaiSettings
from preddiff.classifiers.network import Network
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.settings.base import validate
from preddiff.stages.module import store_module
from tests.unit.datasets.stores import write_store

SPACE = (6, 5, 4)
OWN = """
import torch
from torch import nn


def build(outputs):
    return nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, outputs)
    )


def one():
    return build(1)


def two():
    return build(2)


def three():
    return build(3)
"""


@pytest.fixture
def items(tmp_path: Path) -> Items:
    (tmp_path / "own.py").write_text(OWN)
    x = np.random.default_rng(0).normal(3, 2, size=(8, *SPACE)).astype(np.float32)
    return write_store(
        tmp_path / "data.zarr",
        x,
        affine=np.eye(4),
        classes=("a", "b"),
        numbers=[n % 2 for n in range(8)],
        training=[n < 6 for n in range(8)],
        value=("age", np.arange(8.0)),
    )


def store(items: Items, name: str, **settings: Any) -> Network:
    folder = items.path.parent
    given = ModuleSettings(module=f"{folder / 'own.py'}:{name}", **settings)
    store_module(given, folder / "network", items.path)
    return Network.load(folder / "network")


def test_a_part_of_the_volumes_is_standardised_as_the_training_items(items: Items) -> None:
    found = store(items, "two", axis=1, slices=(1, 3))
    assert (found.corner, found.space) == ((0, 1, 0), (6, 3, 4)) and found.cuts_items
    training = items.read(range(6))[:, :, :, 1:4]
    assert found.standardisation.mean == pytest.approx([training.mean()], rel=1e-5)
    assert found.standardisation.std == pytest.approx([training.std()], rel=1e-5)
    assert found.classes == ("a", "b") and found.training_size == 6 and found.has_probabilities


def test_what_is_given_has_precedence(items: Items) -> None:
    names = items.path.parent / "names.txt"
    names.write_text("x\ny\nz\n")
    found = store(items, "three", mean=[1.0], std=[2.0], training_size=99, classes=names)
    assert found.standardisation.mean == (1.0,) and found.standardisation.std == (2.0,)
    assert found.classes == ("x", "y", "z") and found.training_size == 99
    assert found.corner == (0, 0, 0) and found.space == SPACE


def test_a_value_has_the_name_of_its_column(items: Items) -> None:
    found = store(items, "one", outputs="value")
    assert found.classes == ("age",) and not found.has_probabilities and not found.ranks_classes


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("three", {}, "returns 3 logits, but there are 2 names of classes"),
        ("two", {"outputs": "value"}, "returns 2 values, but 1 are named"),
        ("two", {"slices": (3, 6)}, "slices 3 to 6 of axis 0 lie outside the volumes"),
        ("two", {"mean": [0.0, 0.0], "std": [1.0, 1.0]}, "of 1 channels, but mean and std have 2"),
        ("two", {"crop": 5}, "crop is for images"),
        ("one", {"outputs": "value", "classes": "names.txt"}, "classes: the value of volumes"),
    ],
)
def test_what_does_not_fit_is_refused(
    items: Items, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        store(items, name, **settings)


@pytest.mark.parametrize("kind", [ModuleSettings, MonaiSettings])
@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ({"mean": [1.0]}, "std is required with mean: give both, or none"),
        ({"std": [1.0]}, "mean is required with std: give both, or none"),
        ({"mean": [1.0, 2.0], "std": [1.0]}, "mean has 2 numbers and std 1: give one per channel"),
        ({"mean": [1.0], "std": [0.0]}, "std.0: Input should be greater than 0"),
    ],
)
def test_moments_that_are_incomplete_are_refused(
    kind: type[ModuleSettings | MonaiSettings], moments: dict[str, Any], message: str
) -> None:
    own = {"module": "own.py:one"} if kind is ModuleSettings else {"network": "ResNet"}
    with pytest.raises(InputError, match=message):
        validate(kind, {"weights": "own.pth", **own, **moments}, "test")


def test_networks_of_other_channels_and_data_without_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("Conv3d(1,", "Conv3d(2,"))
    x = np.random.default_rng(0).normal(size=(4, *SPACE)).astype(np.float32)
    items = write_store(
        tmp_path / "data.zarr", x, affine=np.eye(4), classes=("a", "b"), numbers=[0, 1, 0, 1]
    )
    with pytest.raises(InputError, match="does not accept inputs of 1 x 6 x 5 x 4"):
        store(items, "two")
    with pytest.raises(InputError, match="has no number that could be predicted"):
        store(items, "one", outputs="value")
