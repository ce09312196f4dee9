"""The Python interface: what it refuses, and that it says why."""

import numpy as np
import pytest
import torch

import preddiff
from tests.conftest import fitted, smooth

ITEMS = smooth(np.random.default_rng(0), (20, 1, 6, 6))
GAUSSIAN = fitted(ITEMS, 4)
SETTINGS = {"k": 2, "target": 1, "training_size": 20, "progress": False}


def means(batch: np.ndarray) -> np.ndarray:
    return np.stack([batch.mean((1, 2, 3)), -batch.mean((1, 2, 3))], axis=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 2}, "puts out 2 numbers"),
        ({"training_size": None}, "training_size is missing"),
        ({"k": 5}, "l = 4 is smaller than k = 5"),
        ({"k": 3}, "l - k = 1 is odd"),
    ],
)
def test_wrong_settings(change: dict, message: str) -> None:
    with pytest.raises(preddiff.InputError, match=message):
        preddiff.explain(ITEMS[0], means, preddiff.Conditional(GAUSSIAN), **{**SETTINGS, **change})


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (lambda batch: batch.mean((1, 2, 3)), "one row of numbers"),
        (lambda batch: means(batch) * np.nan, "not finite"),
        (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2)), "call its eval"),
    ],
)
def test_wrong_classifiers(classifier, message: str) -> None:
    with pytest.raises(preddiff.InputError, match=message):
        preddiff.explain(ITEMS[0], classifier, preddiff.Conditional(GAUSSIAN), **SETTINGS)


def test_channels_must_agree() -> None:
    with pytest.raises(preddiff.InputError, match="1 channels, the input has 3"):
        preddiff.explain(np.zeros((3, 6, 6)), means, preddiff.Conditional(GAUSSIAN), **SETTINGS)


def test_relevance_is_signed_for_the_target() -> None:
    x = ITEMS[0] + 5
    for_first = preddiff.explain(x, means, preddiff.Grey(0.0), **{**SETTINGS, "target": 0})
    for_second = preddiff.explain(x, means, preddiff.Grey(0.0), **SETTINGS)
    assert (for_first.relevance > 0).all() and (for_second.relevance < 0).all()
    assert not for_first.stderr.any()
