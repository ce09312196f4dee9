"""Relevance stores: their layout, which explanations of any method share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.storage.stores import PROVENANCE, Variable, axes, create
from preddiff.targets import Target

# Maps that are stored together: all of a few classes, a part of a layer of many.
TARGETS_PER_CHUNK = 64

_ITEMS_PER_WRITE = 8
_BYTES_PER_WRITE = 64_000_000


def create_relevance(
    folder: Path,
    items: list[str],
    targets: list[str],
    classes: NDArray[np.int64],
    predictions: NDArray[np.floating],
    provenance: dict[str, Any],
    about: dict[str, Any],
    with_error: bool = False,
) -> None:
    """Make an empty relevance store for a stage that writes it as a whole.

    Parameters
    ----------
    folder : Path
    items, targets : list of str
    classes : int64 array (items, targets)
        Number of each target's class.
    predictions : array (items, targets)
        Value of each target for the intact item.
    provenance, about : mapping
        Attributes; the latter with `corner` and `space` of the classifier's input.
    with_error : bool
        Whether there is an array `error`, of maps that are refined until they are accurate.
    """
    units = {Target.parse(text).unit for text in targets}
    unit = {"units": units.pop()} if len(units) == 1 and "" not in units else {}
    meanings = {
        "relevance": {"long_name": "mean evidence of a voxel's windows", **unit},
        "stderr": {"long_name": "standard error from the draws", **unit},
    }
    if with_error:
        name = "standard deviation of the error, from draws and interpolation"
        meanings["error"] = {"long_name": name, **unit}
    create(
        folder,
        map_variables(items, targets, about["space"], meanings),
        {
            **map_coordinates(items, targets, classes, about),
            "prediction": (("item", "target"), predictions),
        },
        provenance,
        about,
    )


def map_variables(
    items: Sequence[str],
    targets: Sequence[str],
    space: Sequence[int],
    meanings: Mapping[str, Mapping[str, str]],
) -> dict[str, Variable]:
    """Arrays of maps of a relevance store, given the attributes of each."""
    shape = (len(items), len(targets), *space)
    chunk = (1, min(len(targets), TARGETS_PER_CHUNK), *space)
    dimensions = ("item", "target", *axes(len(space)))
    return {
        name: Variable(dimensions, shape, chunk, dict(meaning))
        for name, meaning in meanings.items()
    }


def map_coordinates(
    items: Sequence[str],
    targets: Sequence[str],
    classes: NDArray[np.int64],
    about: Mapping[str, Any],
) -> dict[str, tuple[str | tuple[str, ...], Any]]:
    """Coordinates of a relevance store: items, targets, voxels, and classes of the targets."""
    space, corner = about["space"], about["corner"]
    names = axes(len(space))
    return {
        "item": ("item", np.array(items)),
        "target": ("target", np.array(targets)),
        **{a: (a, np.arange(c, c + n)) for a, c, n in zip(names, corner, space, strict=True)},
        "class_number": (("item", "target"), classes),
    }


def window_side(about: Mapping[str, Any]) -> int | None:
    """Side of the windows that a relevance store was made by; None for methods without windows.

    Parameters
    ----------
    about : mapping
        Attributes of the store.
    """
    # Stores of methods without windows say 1 in version 0.1.0.
    return None if "method" in about[PROVENANCE] else int(about["k"])


def parts_to_write(stored: zarr.Array[Any]) -> Iterator[slice]:
    """Ranges of items that are written in one go: Zarr then compresses several at a time."""
    size = stored.dtype.itemsize * math.prod(stored.shape[1:])
    step = max(1, min(_ITEMS_PER_WRITE, _BYTES_PER_WRITE // size))
    for first in range(0, stored.shape[0], step):
        yield slice(first, min(first + step, stored.shape[0]))
