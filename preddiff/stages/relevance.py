"""Stage relevance: evidence of the windows, and from it the relevance of the voxels."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.evidence import (
    activation_difference,
    relevance,
    standard_error,
    weight_of_evidence,
    weight_of_evidence_slope,
)
from preddiff.progress import progress
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.files import replace_folder
from preddiff.storage.inputs import Inputs
from preddiff.storage.stores import (
    PROVENANCE,
    Variable,
    array,
    axes,
    create,
)
from preddiff.targets import Target
from preddiff.windows import FloatArray

# Maps that are stored together: all of a few classes, a part of a layer of many.
TARGETS_PER_CHUNK = 64

_ITEMS_PER_WRITE = 8
_BYTES_PER_WRITE = 64_000_000


def compute_relevance(expectations: Path, out: Path) -> None:
    """Write the relevance of all items of a complete expectation store.

    The store holds `relevance` and `stderr` (item, target, *space), over the voxels that the
    classifier sees. `stderr` comes from the variance over draws; it is 0 for exact expectations.

    Raises
    ------
    InputError
        If blocks are missing.
    """
    store = ExpectationStore(expectations)
    about = store.about
    with replace_folder(out) as folder:
        _create(folder, store, out)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        arrays = [array(group, name) for name in ("relevance", "stderr")]
        with progress(total=len(store.items), desc="relevance", unit="item") as bar:
            for part in parts_to_write(arrays[0]):
                found = [_of_item(store, about, number) for number in range(part.start, part.stop)]
                for stored, values in zip(arrays, zip(*found, strict=True), strict=True):
                    stored[part] = np.stack(values)
                bar.update(part.stop - part.start)


def parts_to_write(stored: zarr.Array[Any]) -> Iterator[slice]:
    """Ranges of items that are written in one go: Zarr then compresses several at a time."""
    size = stored.dtype.itemsize * math.prod(stored.shape[1:])
    step = max(1, min(_ITEMS_PER_WRITE, _BYTES_PER_WRITE // size))
    for first in range(0, stored.shape[0], step):
        yield slice(first, min(first + step, stored.shape[0]))


def _of_item(
    store: ExpectationStore, about: dict[str, Any], number: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Relevance and its standard error (targets, *space) of an item."""
    expectations = store.read(number)
    found = [
        _of_target(store, about, Target.parse(text), row, expectations)
        for row, text in enumerate(store.targets)
    ]
    maps, errors = (np.stack(values).astype(np.float32) for values in zip(*found, strict=True))
    return maps, errors


def _of_target(
    store: ExpectationStore,
    about: dict[str, Any],
    target: Target,
    row: int,
    found: dict[str, NDArray[np.float32]],
) -> tuple[FloatArray, FloatArray]:
    reference = np.float64(found["reference"][row])
    change = found["change"][row].astype(np.float64)
    error = _error(about[PROVENANCE], found["variance"][row].astype(np.float64))
    if target.kind == "probability":
        n, classes = about["training_size"], len(about["classes"])
        evidence = weight_of_evidence(reference, change, n, classes)
        error *= np.abs(weight_of_evidence_slope(reference, change, n, classes))
    else:
        evidence = activation_difference(change)
    return relevance(evidence, store.windows), standard_error(error, store.windows)


def _error(provenance: dict[str, Any], variance: FloatArray) -> FloatArray:
    if provenance["estimator"] == "exact":
        return np.zeros_like(variance)
    return np.sqrt(variance / provenance["samples"])


def _create(folder: Path, store: ExpectationStore, out: Path) -> None:
    about = store.about
    create_relevance(
        folder,
        store.items,
        store.targets,
        np.asarray(array(store.group, "class_number")[:]),
        np.asarray(array(store.group, "reference")[:]),
        {**about[PROVENANCE], "expectations": store.path.name},
        {
            **{key: about[key] for key in ("corner", "space", "k", "classes", "training_size")},
            "inputs": Inputs.of(store.path, about).relative_to(out),
        },
    )


def create_relevance(
    folder: Path,
    items: list[str],
    targets: list[str],
    classes: NDArray[np.int64],
    predictions: NDArray[np.floating],
    provenance: dict[str, Any],
    about: dict[str, Any],
) -> None:
    """Make an empty relevance store: what explanations of any method have in common.

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
    """
    space, corner = about["space"], about["corner"]
    names = axes(len(space))
    dimensions = ("item", "target", *names)
    shape = (len(items), len(targets), *space)
    chunk = (1, min(len(targets), TARGETS_PER_CHUNK), *space)
    units = {Target.parse(text).unit for text in targets}
    unit = {"units": units.pop()} if len(units) == 1 else {}
    meanings = {
        "relevance": "mean evidence of a voxel's windows",
        "stderr": "standard error from the draws",
    }
    create(
        folder,
        {
            name: Variable(dimensions, shape, chunk, {"long_name": meaning, **unit})
            for name, meaning in meanings.items()
        },
        {
            "item": ("item", np.array(items)),
            "target": ("target", np.array(targets)),
            **{a: (a, np.arange(c, c + n)) for a, c, n in zip(names, corner, space, strict=True)},
            "class_number": (("item", "target"), classes),
            "prediction": (("item", "target"), predictions),
        },
        provenance,
        about,
    )
