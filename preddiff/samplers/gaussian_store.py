"""Stores of patch Gaussians, global or by location: fitting them on items, and reading them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import zarr
from dask.delayed import delayed
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field
from tqdm.dask import TqdmCallback

from preddiff.datasets.items import Items
from preddiff.datasets.slab import Slab, slab_of
from preddiff.errors import InputError
from preddiff.progress import options as progress_options
from preddiff.progress import progress
from preddiff.samplers.draws import seed_of
from preddiff.samplers.gaussian import (
    Grid,
    LocatedPatchGaussian,
    Moments,
    PatchGaussian,
    draw_patches,
    located_moments,
)
from preddiff.settings.base import Positive, Settings, Share
from preddiff.storage.files import replace_folder
from preddiff.storage.provenance import digest_json
from preddiff.storage.stores import (
    Variable,
    array,
    attributes,
    create,
    open_store,
    update_attributes,
)
from preddiff.windows import FloatArray

DIGEST = "digest"
RANGE = "range"


class GaussianSettings(Settings):
    """How a patch Gaussian is fitted (`preddiff gaussian`)."""

    patches: Positive = Field(
        100_000, description="number of patches that the global Gaussian is fitted on"
    )
    shrinkage: Share | None = Field(
        None, description="weight of the scaled identity in the covariance; default: OAS estimate"
    )
    grid: tuple[Positive, Positive, Positive] | None = Field(
        None,
        description="number of cells along each axis of a grid over the volume, with one Gaussian "
        "per cell; default: one Gaussian for all locations",
    )
    channels: Literal["joint", "independent"] = Field(
        "joint",
        description="joint: one Gaussian over all channels, as in the paper; independent: one for "
        "each channel",
    )
    cell_patches: Positive = Field(
        5000, description="number of patches that each cell's Gaussian is fitted on"
    )
    strength: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="weight of the global Gaussian in each cell, as a number of patches; default: "
        "the number of voxels in a patch",
    )


def fit_gaussian(
    data: Path,
    settings: GaussianSettings,
    l: int,
    slab: Slab,
    seed: int,
    threads: int,
    out: Path,
    margin: int | None = None,
) -> None:
    """Fit and store a patch Gaussian.

    The store holds `mean` and `covariance` in float64 (conditioning inverts the covariance); by
    location they have a leading axis `cell`, over the cells that patches around the slab's voxels,
    and around those near it, belong to.

    Parameters
    ----------
    data : Path
        Data store; its training items are used, whole.
    settings : GaussianSettings
    l : int
        Side of the surroundings.
    slab : Slab
        What the classifier sees, which chooses the cells of a Gaussian by location.
    seed, threads : int
    out : Path
        Store to write, which appears when complete.
    margin : int, optional
        How far beyond the slab the centres of windows may be, which chooses cells, too; default:
        half of `l`, since windows are not larger.
    """
    items = Items(data)
    everywhere, span = fit_everywhere(items, settings, l, seed, threads)
    provenance = {
        "settings": settings.model_dump(mode="json"),
        "l": l,
        "seed": seed,
        "items": digest_json([items.digests[n] for n in np.flatnonzero(items.training)]),
    }
    if settings.grid is not None and not items.are_volumes:
        raise InputError("a Gaussian by location (grid) is for volumes; these items are images")
    with replace_folder(out) as folder:
        if settings.grid is None:
            _write_everywhere(folder, everywhere, provenance)
        else:
            margin = l // 2 if margin is None else margin
            provenance |= {"slab": slab.model_dump(mode="json"), "margin": margin}
            centres = tuple(
                slice(part.start - margin, part.stop + margin) for part in slab_of(items, slab)
            )
            _write_located(folder, items, everywhere, settings, centres, seed, provenance)
        update_attributes(folder, {RANGE: span})


def load_gaussian(path: Path) -> PatchGaussian | LocatedPatchGaussian:
    """Open a stored Gaussian, global or by location; cells of the latter are read when asked for.

    Raises
    ------
    InputError
        If there is no such store.
    """
    group = open_store(path)
    about = attributes(group)
    if "grid" not in about:
        return PatchGaussian(
            np.asarray(array(group, "mean")[:]),
            np.asarray(array(group, "covariance")[:]),
            about["l"],
            about["channels"],
            about["patches"],
            about["shrinkage"],
        )
    grid = Grid(tuple(about["space"]), tuple(about["grid"]))
    return LocatedPatchGaussian(grid, _StoredCells(group), about["l"], about["channels"], (0, 0, 0))


def digest_of(path: Path) -> str:
    """Digest of a stored Gaussian's means and covariances."""
    return str(attributes(open_store(path))[DIGEST])


def range_of(path: Path) -> tuple[float, float]:
    """Range of the values of the items that a stored Gaussian was fitted on."""
    low, high = attributes(open_store(path))[RANGE]
    return float(low), float(high)


def fit_everywhere(
    items: Items,
    settings: GaussianSettings,
    l: int,
    seed: int,
    threads: int,
) -> tuple[PatchGaussian, tuple[float, float]]:
    """Fit the Gaussian for all locations, and return it with the range of the items' values.

    Raises
    ------
    InputError
        If there are no training items, or patches of side `l` do not fit into them.
    """
    numbers = np.flatnonzero(items.training)
    if not len(numbers):
        raise InputError(f"{items.path} has no training items that a Gaussian could be fitted on")
    each = -(-settings.patches // len(numbers))

    def moments(number: int) -> _Part:
        source = np.random.default_rng(seed_of(seed, items.names[number], bits=64))
        item = items.read([number])[0]
        patches = draw_patches(item, l, each, source)
        return _Part(Moments.of(patches), float(item.min()), float(item.max()))

    merged = [delayed(moments)(int(number)) for number in numbers]
    while len(merged) > 1:
        pairs = [merged[i : i + 2] for i in range(0, len(merged), 2)]
        merged = [delayed(_Part.merge)(*p) if len(p) == 2 else p[0] for p in pairs]
    with TqdmCallback(desc="gaussian", unit="task", **progress_options()):
        found = merged[0].compute(scheduler="threads", num_workers=threads)
    gaussian = PatchGaussian.from_moments(
        found.moments, l, items.channels, settings.shrinkage, settings.channels == "independent"
    )
    return gaussian, (found.low, found.high)


@dataclass(frozen=True)
class _Part:
    """Moments of some items' patches, and the range of the items' values."""

    moments: Moments
    low: float
    high: float

    def merge(self, other: "_Part") -> "_Part":
        return _Part(
            self.moments.merge(other.moments),
            min(self.low, other.low),
            max(self.high, other.high),
        )


def _write_everywhere(
    folder: Path, gaussian: PatchGaussian, provenance: Mapping[str, object]
) -> None:
    p = len(gaussian.mean)
    create(folder, _variables((), p), {}, provenance)
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    array(group, "mean")[:] = gaussian.mean
    array(group, "covariance")[:] = gaussian.covariance
    update_attributes(
        folder,
        {
            "l": gaussian.l,
            "channels": gaussian.channels,
            "patches": gaussian.patches,
            "shrinkage": gaussian.shrinkage,
            DIGEST: _digest([(gaussian.mean, gaussian.covariance)]),
        },
    )


def _write_located(
    folder: Path,
    items: Items,
    everywhere: PatchGaussian,
    settings: GaussianSettings,
    centres: tuple[slice, ...],
    seed: int,
    provenance: Mapping[str, object],
) -> None:
    assert settings.grid is not None
    grid = Grid(items.space, settings.grid)
    cells = _cells_of(grid, centres, everywhere.l)
    p = len(everywhere.mean)
    strength = settings.strength or float(p)
    ids = {"cell": ("cell", np.array([cell for cell, _ in cells]))}
    create(folder, _variables((len(cells),), p), ids, provenance)
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    counts = []
    digest = hashlib.sha256()
    patches = _Patches(items, everywhere.l, [box for _, box in cells])
    channel_of = np.repeat(np.arange(items.channels), p // items.channels)
    for row, (cell, box) in enumerate(progress(cells, desc="gaussian by location", unit="cell")):
        own = patches.draw(box, settings.cell_patches, np.random.default_rng((seed, cell)))
        found = Moments.of(own)
        if settings.channels == "independent":
            found = found.without_covariance_between(channel_of)
        moments = located_moments(found, everywhere, strength)
        array(group, "mean")[row] = moments.mean
        array(group, "covariance")[row] = moments.covariance
        digest.update(_digest([(moments.mean, moments.covariance)]).encode())
        counts.append(len(own))
    update_attributes(
        folder,
        {
            "l": everywhere.l,
            "channels": items.channels,
            "space": list(items.space),
            "grid": list(settings.grid),
            "patches": int(np.sum(counts)),
            "patches_per_cell": counts,
            "shrinkage": everywhere.shrinkage,
            "strength": strength,
            DIGEST: digest.hexdigest(),
        },
    )


def _variables(leading: tuple[int, ...], p: int) -> dict[str, Variable]:
    cell = ("cell",) * len(leading)
    one = (1,) * len(leading)
    return {
        "mean": Variable(
            (*cell, "voxel"), (*leading, p), (*one, p), {"long_name": "mean of patches"}, None, "f8"
        ),
        "covariance": Variable(
            (*cell, "voxel", "other_voxel"),
            (*leading, p, p),
            (*one, p, p),
            {"long_name": "covariance of patches, shrunk"},
            None,
            "f8",
        ),
    }


def _digest(parts: list[tuple[FloatArray, FloatArray]]) -> str:
    total = hashlib.sha256()
    for mean, covariance in parts:
        total.update(mean.data)
        total.update(np.ascontiguousarray(covariance).data)
    return total.hexdigest()


Box = tuple[range, ...]


def _cells_of(grid: Grid, centres: tuple[slice, ...], l: int) -> list[tuple[int, Box]]:
    """Cells that hold some centres of patches of side `l`, with the starts of their patches.

    Patches are shifted to stay inside the volume. The starts of a cell's patches are those of all
    the volume.
    """
    axes = [
        _cells_along(n, cells, part, l)
        for n, cells, part in zip(grid.space, grid.cells, centres, strict=True)
    ]
    return [
        (
            int(np.ravel_multi_index([axes[a][i][0] for a, i in enumerate(index)], grid.cells)),
            tuple(axes[a][i][1] for a, i in enumerate(index)),
        )
        for index in np.ndindex(*(len(axis) for axis in axes))
    ]


def _cells_along(n: int, cells: int, part: slice, l: int) -> list[tuple[int, range]]:
    cell = (np.arange(n - l + 1) + l // 2) * cells // n
    around = np.arange(part.start, part.stop) - l // 2
    needed = np.unique(cell[np.clip(around, 0, n - l)])
    ends = [np.flatnonzero(cell == c) for c in needed]
    return [(int(c), range(int(e[0]), int(e[-1]) + 1)) for c, e in zip(needed, ends, strict=True)]


class _Patches:
    """Patches of the training items, from the part of the volumes that the boxes touch."""

    def __init__(self, items: Items, l: int, boxes: list[Box]) -> None:
        self.l = l
        starts = [min(box[a].start for box in boxes) for a in range(3)]
        stops = [max(box[a].stop for box in boxes) - 1 + l for a in range(3)]
        self.corner = starts
        part = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        volumes = items.read(np.flatnonzero(items.training), part)
        # Channels come after the places, so that a patch is in C order of (channel, *patch).
        self.view = np.moveaxis(sliding_window_view(volumes, (l, l, l), axis=(2, 3, 4)), 1, 4)

    def draw(self, box: Box, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Patches that start in a box of any item: all, or `count` of them at random."""
        shape = (len(self.view), *(len(axis) for axis in box))
        total = int(np.prod(shape))
        chosen = generator.choice(total, min(count, total), replace=False, shuffle=False)
        item, *index = np.unravel_index(np.sort(chosen), shape)
        places = [i + axis.start - c for i, axis, c in zip(index, box, self.corner, strict=True)]
        patches: NDArray[np.float32] = self.view[(item, *places)].reshape(len(chosen), -1)
        return patches


class _StoredCells(Mapping[int, tuple[FloatArray, FloatArray]]):
    """Means and covariances by cell; the last cell read is kept."""

    def __init__(self, group: zarr.Group) -> None:
        self.group = group
        self.rows = {int(cell): row for row, cell in enumerate(np.asarray(array(group, "cell")[:]))}
        self.last: tuple[int, tuple[FloatArray, FloatArray]] | None = None

    def __getitem__(self, cell: int) -> tuple[FloatArray, FloatArray]:
        if self.last is None or self.last[0] != cell:
            row = self.rows[cell]
            mean = np.asarray(array(self.group, "mean")[row])
            covariance = np.asarray(array(self.group, "covariance")[row])
            self.last = cell, (mean, covariance)
        return self.last[1]

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
