"""Items that deletion curves fill: as a network sees them, with all that is known around it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preddiff.datasets.items import Items
from preddiff.datasets.slab import Slab
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian_store import GaussianSettings, fit_gaussian, load_gaussian, range_of
from preddiff.stages.deletion import _reader
from preddiff.windows import Windows
from tests.conftest import smooth
from tests.unit.datasets.stores import write_store

SPACE, K, L = (11, 9), 3, 5


@pytest.fixture
def items(tmp_path: Path) -> Items:
    return write_store(tmp_path / "data.zarr", smooth(np.random.default_rng(1), (9, 2, *SPACE)))


@pytest.fixture
def gaussian(items: Items, tmp_path: Path) -> Path:
    path = tmp_path / "gaussian.zarr"
    fit_gaussian(items.path, GaussianSettings(patches=2000), L, Slab(), 1, 1, path)
    return path


def test_whole_items_are_filled_by_their_conditional_means(items: Items, gaussian: Path) -> None:
    windows = Windows(SPACE, K, K)
    x, filled = _reader(items, gaussian, windows)("item-3")
    whole = torch.from_numpy(items.read([3])[0])
    expected = Conditional(load_gaussian(gaussian), range_of(gaussian)).fill(whole, windows)
    assert torch.equal(x, whole) and torch.equal(filled, expected)


def test_parts_of_items_are_filled_from_what_lies_beside_them(items: Items, gaussian: Path) -> None:
    part = (slice(4, 7), slice(0, 9))
    x, filled = _reader(items, gaussian, Windows(SPACE, K, K, part))("item-3")
    whole = items.read([3])[0]
    assert np.array_equal(x, whole[:, 4:7])
    sampler = Conditional(load_gaussian(gaussian), range_of(gaussian))
    everything = sampler.fill(torch.from_numpy(whole), Windows(SPACE, K, K, part))
    assert torch.equal(filled, everything[:, 4:7])


def test_without_a_gaussian_they_are_filled_by_the_mean(items: Items) -> None:
    part = (slice(4, 7), slice(0, 9))
    _, filled = _reader(items, None, Windows(SPACE, K, K, part))("item-3")
    assert filled.shape == (2, 3, 9)
    assert np.allclose(filled, items.training_mean(part))
