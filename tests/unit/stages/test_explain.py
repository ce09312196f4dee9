"""Stores of a classifier that sees a slab: its surroundings, its provenance, its cells."""

import itertools
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
from preddiff.stages.relevance import compute_relevance
from preddiff.storage.expectations import ExpectationStore
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
    folder: Path,
    out: Path,
    name: str,
    kind: str = "global",
    given: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[list[str], xr.Dataset]:
    sampler = {"kind": "conditional", "grid": GRID if kind == "located" else None, **settings}
    windows = {"k": K, "l": L, "targets": ["logit:b"], **(given or {})}
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


# Windows that overlap the borders of the slab.


def overlapping(folder: Path, name: str, kind: str, item: int, k: int) -> np.ndarray:
    """Mean shifts of the logit for all windows that contain a voxel of the slab."""
    volume = zarr.open_array(folder / "data.zarr/intensity")[item].astype(np.float64)
    classifier = LinearClassifier.load(folder / name)
    weights = np.zeros(SPACE)
    weights[classifier.slab] = classifier.weights[0]
    group = zarr.open_group(folder / f"{name}-{kind}.zarr")
    ids = list(group["cell"][:]) if kind == "located" else [0]
    means, covariances = (np.atleast_2d(group[key][:]) for key in ("mean", "covariance"))
    covariances = covariances.reshape(len(ids), *covariances.shape[-2:])
    first = classifier.slab[0].start - k + 1
    last = min(classifier.slab[0].stop - 1, SPACE[0] - k)
    along = [range(max(0, first), last + 1), *(range(n - k + 1) for n in SPACE[1:])]
    found = np.empty([len(one) for one in along])
    for index in np.ndindex(found.shape):
        start = np.array([one[i] for one, i in zip(along, index, strict=True)])
        corner = np.minimum(np.maximum(start - (L - k) // 2, 0), np.array(SPACE) - L)
        cell = (corner + L // 2) * np.array(GRID) // np.array(SPACE)
        row = 0
        if kind == "located":
            row = ids.index((cell[0] * GRID[1] + cell[1]) * GRID[2] + cell[2])
        place = tuple(slice(c, c + L) for c in corner)
        mask = np.zeros(SPACE, dtype=bool)
        mask[tuple(slice(s, s + k) for s in start)] = True
        own = np.flatnonzero(mask[place].reshape(-1))
        around = np.flatnonzero(~mask[place].reshape(-1))
        x, w = volume[place].reshape(-1), weights[place].reshape(-1)[own]
        mean, covariance = means[row], covariances[row]
        solved = np.linalg.solve(covariance[np.ix_(around, around)], x[around] - mean[around])
        redrawn = mean[own] + covariance[np.ix_(own, around)] @ solved
        found[index] = w @ (redrawn - x[own])
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [*itertools.product(["middle", "first"], ["global", "located"]), ("whole", "global")],
)
def test_windows_of_stores_overlap_the_borders_of_the_slab(
    folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    _, store = explained(folder, tmp_path / "e.zarr", name, kind, {"k": 3})
    starts = {"middle": range(2, 7), "first": range(5), "whole": range(10)}[name]
    assert list(store["window_x"].values) == list(starts)
    assert list(store["window_y"].values) == list(range(SPACE[1] - 2))
    assert ("beyond_slab" in store.attrs[PROVENANCE]) == (name != "whole")
    shifts = overlapping(folder, name, kind, 7, 3)
    assert store["change"].values[7, 0] == pytest.approx(shifts, abs=1e-6)
    # Relevance is that of the voxels of the slab.
    compute_relevance(tmp_path / "e.zarr", tmp_path / "r.zarr")
    maps = xr.open_zarr(tmp_path / "r.zarr")
    slab = LinearClassifier.load(folder / name).slab
    assert list(maps["x"].values) == list(range(slab[0].start, slab[0].stop))
    totals, counts = np.zeros(SPACE), np.zeros(SPACE)
    for index in np.ndindex(shifts.shape):
        box = tuple(slice(s, s + 3) for s in (starts[index[0]], *index[1:]))
        totals[box] -= shifts[index]
        counts[box] += 1
    expected = totals[slab] / counts[slab]
    assert maps["relevance"].values[7, 0] == pytest.approx(expected, abs=1e-6)


def test_windows_inside_the_slab_and_overlapping_ones_never_mix(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "expectations/e.zarr"
    changed, store = explained(folder, out, "first", given={"k": 3, "beyond_slab": False})
    assert changed == [] and list(store["window_x"].values) == [0, 1, 2]
    assert "beyond_slab" not in store.attrs[PROVENANCE]
    former = store["change"].values
    changed, store = explained(folder, out, "first", given={"k": 3})
    assert changed == ["beyond_slab: unset -> True"]
    # Those inside are among the others.
    found = store["change"].values
    assert found[:, :, :3] == pytest.approx(former, abs=1e-6)
    assert explained(folder, out, "first", given={"k": 3, "beyond_slab": True})[0] == []
    # What was set aside comes back.
    _, store = explained(folder, out, "first", given={"k": 3, "beyond_slab": False})
    assert "beyond_slab" not in store.attrs[PROVENANCE]
    assert np.array_equal(store["change"].values, former)


def test_blocks_of_overlapping_windows_are_resumed(folder: Path, tmp_path: Path) -> None:
    out, given = tmp_path / "e.zarr", {"k": 3, "block": 50, "beyond_slab": True}
    _, store = explained(folder, out, "middle", given=given)
    expected = store["change"].values
    blocks = ExpectationStore(out, "r+")
    assert len(blocks.blocks) == 5
    for item, block in ((0, 0), (3, 4)):
        blocks.discard(item, [blocks.blocks[block]])
        assert blocks.missing(item) == [blocks.blocks[block]]
    explain(out, 0, None, None)
    assert np.array_equal(xr.open_zarr(out)["change"].values, expected)


def test_a_gaussian_of_the_slab_alone_does_not_suit_overlapping_windows(
    folder: Path, tmp_path: Path
) -> None:
    settings = GaussianSettings(patches=2000, grid=GRID, cell_patches=100)
    slab = Slab(slices=(4, 5))
    cells = {}
    for margin in (0, 1, 2):
        out = tmp_path / f"{margin}.zarr"
        fit_gaussian(folder / "data.zarr", settings, L, slab, 1, 1, out, margin)
        cells[margin] = set(zarr.open_group(out)["cell"][:])
    # Cells are three slices thick.
    assert {cell // 6 for cell in cells[0]} == {1}
    assert {cell // 6 for cell in cells[1]} == {1, 2}
    assert {cell // 6 for cell in cells[2]} == {0, 1, 2}
