"""Stores of a classifier that sees a slab: its surroundings, its provenance, its cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.slab import Slab
from preddiff.errors import InputError
from preddiff.methods.prediction_difference import ExpectationSettings
from preddiff.samplers.gaussian_store import GaussianSettings, fit_gaussian
from preddiff.settings.base import validate
from preddiff.stages.explain import explain
from preddiff.stages.open import open_expectations
from preddiff.storage.inputs import Inputs
from preddiff.storage.stores import PROVENANCE
from tests.conftest import smooth
from tests.unit.datasets.stores import write_store

SPACE, GRID = (12, 8, 9), (4, 2, 3)
K, L = 1, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes, Gaussians of the whole volumes and by location, and classifiers of slabs."""
    folder = tmp_path_factory.mktemp("slab")
    values = smooth(np.random.default_rng(1), (12, 1, *SPACE))[:, 0]
    write_store(folder / "data.zarr", values, affine=np.eye(4), classes=["a", "b"])
    for name, slab, grids in (
        ("middle", (4, 6), (None, GRID)),
        ("first", (0, 4), (None, GRID)),
        ("whole", (0, 11), (None,)),
    ):
        sides = (slab[1] - slab[0] + 1, *SPACE[1:])
        weights = np.random.default_rng(2).normal(size=(1, *sides)) * 0.2
        LinearClassifier(weights, 0.3, ("a", "b"), 12, (slab[0], 0, 0)).save(folder / name, {})
        for grid in grids:
            settings = GaussianSettings(patches=2000, grid=grid, cell_patches=100)
            out = folder / f"{name}-{'located' if grid else 'global'}.zarr"
            fit_gaussian(folder / "data.zarr", settings, L, Slab(slices=slab), 1, 1, out)
    return folder


def explained(
    folder: Path, out: Path, name: str, kind: str = "global", **settings: Any
) -> tuple[list[str], xr.Dataset]:
    sampler = {"kind": "conditional", "grid": GRID if kind == "located" else None, **settings}
    windows = {"k": K, "l": L, "targets": ["logit:b"]}
    inputs = Inputs(folder / "data.zarr", folder / name, folder / f"{name}-{kind}.zarr", None, None)
    wanted = validate(ExpectationSettings, {"sampler": sampler, "windows": windows}, "test")
    changed = open_expectations(inputs, wanted, 3, out)
    explain(out, 0, None, None)
    return changed, xr.open_zarr(out)


def expected(folder: Path, name: str, kind: str, item: int) -> np.ndarray:
    """Mean shifts of the logit, window by window: a window is a voxel here."""
    volume = zarr.open_array(folder / "data.zarr/intensity")[item].astype(np.float64)
    classifier = LinearClassifier.load(folder / name)
    group = zarr.open_group(folder / f"{name}-{kind}.zarr")
    by_location = kind == "located"
    ids = list(group["cell"][:]) if by_location else [0]
    means, covariances = (
        group[key][:] if by_location else group[key][:][None] for key in ("mean", "covariance")
    )
    found = np.empty(classifier.space)
    for voxel in np.ndindex(*found.shape):
        place = np.array(voxel) + classifier.corner
        first = np.minimum(np.maximum(place - L // 2, 0), np.array(SPACE) - L)
        cell = (first + L // 2) * np.array(GRID) // np.array(SPACE)
        row = ids.index((cell[0] * GRID[1] + cell[1]) * GRID[2] + cell[2]) if by_location else 0
        mean, covariance = means[row], covariances[row]
        patch = volume[tuple(slice(f, f + L) for f in first)].reshape(-1)
        own = int(np.ravel_multi_index(tuple(place - first), (L,) * 3))
        around = np.delete(np.arange(L**3), own)
        solved = np.linalg.solve(covariance[np.ix_(around, around)], covariance[around, own])
        redrawn = mean[own] + solved @ (patch[around] - mean[around])
        found[voxel] = classifier.weights[(0, *voxel)] * (redrawn - patch[own])
    return found


@pytest.mark.parametrize("kind", ["global", "located"])
@pytest.mark.parametrize("name", ["middle", "first"])
def test_stored_expectations_are_conditioned_on_the_volume(
    folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    _, store = explained(folder, tmp_path / "e.zarr", name, kind)
    for item in (0, 7):
        shifts = expected(folder, name, kind, item)
        assert store["change"].values[item, 0] == pytest.approx(shifts, abs=1e-6)


def test_both_ways_never_mix(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "expectations/e.zarr"
    changed, store = explained(folder, out, "first", surroundings="input")
    assert changed == [] and "surroundings" not in store.attrs[PROVENANCE]
    former = store["change"].values
    changed, store = explained(folder, out, "first")
    assert changed == ["surroundings: unset -> item"]
    assert np.abs(store["change"].values - former)[:, :, -2:].max() > 0.01
    # What lies beyond the last slice of the slab is all that is new.
    assert np.array_equal(store["change"].values[:, :, :-2], former[:, :, :-2])
    changed, store = explained(folder, out, "first", surroundings="input")
    assert np.array_equal(store["change"].values, former)


def test_where_the_classifier_sees_all_both_ways_are_the_same(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.zarr"
    _, store = explained(folder, out, "whole")
    before = store["change"].values
    assert "surroundings" not in store.attrs[PROVENANCE]
    changed, store = explained(folder, out, "whole", surroundings="input")
    assert changed == [] and np.array_equal(store["change"].values, before)


def test_a_slab_thinner_than_its_surroundings_needs_the_volume(
    folder: Path, tmp_path: Path
) -> None:
    message = "l = 5 do not fit into an input of 3 x 8 x 9 voxels"
    with pytest.raises(InputError, match=message):
        explained(folder, tmp_path / "e.zarr", "middle", surroundings="input")
    assert not (tmp_path / "e.zarr").exists()
