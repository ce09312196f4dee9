"""Data stores of arrays, as the stages of preparation lay them out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from preddiff.datasets.items import SCALE, Items
from preddiff.storage.stores import Variable, array, axes, create


def write_store(
    path: Path,
    values: np.ndarray,
    *,
    training: Sequence[bool] | None = None,
    scale: float | None = None,
    affine: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    classes: Sequence[str] = (),
    numbers: Sequence[int] | None = None,
    value: tuple[str, np.ndarray] | None = None,
    nuisance: tuple[Sequence[str], np.ndarray] | None = None,
    levels: Mapping[str, Sequence[str]] | None = None,
    channels: Sequence[str] = (),
) -> Items:
    """Write items: volumes if there is an affine, else images (n, channels, y, x).

    Volumes are (n, x, y, z), or (n, channels, x, y, z) if channels are named.
    """
    n = len(values)
    names = axes(2 if affine is None else 3)
    dimensions = ("item", *(("channel",) if affine is None or channels else ()), *names)
    attributes = {} if scale is None else {SCALE: scale}
    chunks = (1, *values.shape[1:])
    variables = {
        "intensity": Variable(dimensions, values.shape, chunks, attributes, dtype=str(values.dtype))
    }
    if truth is not None:
        variables["truth"] = Variable(dimensions, truth.shape, chunks, {}, dtype="uint8")
    numbers = [-1] * n if numbers is None else numbers
    columns: dict[str, Any] = {
        "item": [f"item-{number}" for number in range(n)],
        "group": [classes[number] if number >= 0 else "" for number in numbers],
        "class_number": np.array(numbers, dtype=np.int64),
        "training": [True] * n if training is None else training,
        "digest": [f"digest-{number}" for number in range(n)],
    }
    coordinates: dict[str, Any] = {
        name: ("item", np.array(column)) for name, column in columns.items()
    }
    about: dict[str, Any] = {"classes": list(classes)} | (
        {} if affine is None else {"affine": affine.tolist()}
    )
    if value is not None:
        about["value_name"] = value[0]
        coordinates["value"] = ("item", value[1])
    if channels:
        coordinates["channel"] = ("channel", np.array(channels))
    if nuisance is not None:
        coordinates["nuisance_variable"] = ("nuisance_variable", np.array(nuisance[0]))
        coordinates["nuisance"] = (("item", "nuisance_variable"), nuisance[1])
        about["nuisance_levels"] = {name: list(found) for name, found in (levels or {}).items()}
    create(path, variables, coordinates, {}, about)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name, written in (("intensity", values), ("truth", truth)):
        if written is not None and written.any():
            array(group, name)[:] = written
    return Items(path)
