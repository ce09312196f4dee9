"""The small network of volumes: training, cross-validation, and what is stored."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from preddiff.classifiers.convolutional import ConvolutionalTraining
from preddiff.classifiers.network import Network
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.stages.train_convolutional import train_convolutional
from tests.unit.datasets.stores import write_store

SPACE = (9, 8, 8)
SETTINGS = ConvolutionalTraining(slices=(2, 7), folds=3, epochs=40)


def cohort(folder: Path, effect: float, count: int = 36) -> Path:
    """A cohort with a dark block in items of the second class."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(count, *SPACE)).astype(np.float32)
    numbers = [n % 2 for n in range(count)]
    for row, number in zip(x, numbers, strict=True):
        row[3:7, 2:6, 2:6] -= effect * number
    path = folder / "data.zarr"
    write_store(path, x, affine=np.eye(4), classes=("control", "patient"), numbers=numbers)
    return path


def test_an_effect_is_found_in_held_out_items(tmp_path: Path) -> None:
    data = cohort(tmp_path, 4.0)
    train_convolutional(data, SETTINGS, 0, tmp_path / "network")
    scores = json.loads((tmp_path / "network/cv.json").read_text())
    assert scores["accuracy_mean"] > 0.9 and scores["roc_auc"] > 0.95
    table = pd.read_csv(tmp_path / "network/cv.tsv", sep="\t")
    assert len(table) == 36 and set(table["fold"]) == {0, 1, 2}
    assert np.isclose(table.groupby("fold")["correct"].mean().mean(), scores["accuracy_mean"])
    assert np.allclose(table["probability:control"] + table["probability:patient"], 1)
    network = Network.load(tmp_path / "network")
    assert network.corner == (2, 0, 0) and network.space == (6, 8, 8)
    assert network.classes == ("control", "patient") and network.training_size == 36


def test_held_out_items_are_not_learned_from(tmp_path: Path) -> None:
    # Without an effect, what was seen in training would be recognised; what was not, cannot be.
    train_convolutional(cohort(tmp_path, 0.0), SETTINGS, 0, tmp_path / "network")
    scores = json.loads((tmp_path / "network/cv.json").read_text())
    assert scores["accuracy_mean"] < 0.75


def test_folds_know_nothing_of_what_they_hold_out(tmp_path: Path) -> None:
    """Another value of an item changes all networks but that of its own fold."""
    settings = ConvolutionalTraining(folds=3, epochs=1)
    for name, factor in (("plain", 1), ("bright", 50)):
        (tmp_path / name).mkdir()
        data = cohort(tmp_path / name, 1.0, count=12)
        values = zarr.open_array(data / "intensity")
        values[5] = factor * values[5]
        train_convolutional(data, settings, 1, tmp_path / name / "network")
    fold_of = json.loads((tmp_path / "plain/network/folds/items.json").read_text())
    own = fold_of[Items(tmp_path / "plain/data.zarr").names[5]]
    for fold in range(3):
        files = [
            (tmp_path / name / "network/folds" / str(fold) / file).read_bytes()
            for name in ("plain", "bright")
            for file in ("weights.safetensors", "classifier.json")
        ]
        assert (files[:2] == files[2:]) is (fold == own)


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    data = cohort(tmp_path, 1.0, count=12)
    settings = ConvolutionalTraining(folds=2, epochs=2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_convolutional(data, settings, seed, tmp_path / name)
    x = torch.zeros((1, 1, *SPACE))
    a, b, c = (Network.load(tmp_path / name).logits(x) for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_too_few_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="7 folds need at least 7 subjects of each class"):
        train_convolutional(
            cohort(tmp_path, 0.0, count=12), ConvolutionalTraining(folds=7), 0, tmp_path / "x"
        )
