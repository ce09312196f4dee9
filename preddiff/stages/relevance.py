"""Stage relevance: evidence of the windows, and from it the relevance of the voxels."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.evidence import activation_difference, weight_of_evidence, weight_of_evidence_slope
from preddiff.files import replace_folder
from preddiff.progress import progress
from preddiff.relevance import relevance, standard_error
from preddiff.stores import (
    AXES,
    PROVENANCE,
    ExpectationStore,
    Variable,
    array,
    create,
)
from preddiff.targets import Target
from preddiff.windows import FloatArray


def compute_relevance(expectations: Path, out: Path) -> None:
    """Write the relevance of all items of a complete expectation store.

    The store holds `relevance` and `stderr` (item, target, x, y, z), over the voxels that the
    classifier sees. `stderr` comes from the variance over draws; it is 0 for exact expectations.

    Raises
    ------
    InputError
        If blocks are missing.
    """
    store = ExpectationStore(expectations)
    about = store.about
    with replace_folder(out) as folder:
        _create(folder, store, about)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        for number in progress(range(len(store.items)), desc="relevance", unit="item"):
            found = [
                _of_target(store, about, Target.parse(text), row, store.read(number))
                for row, text in enumerate(store.targets)
            ]
            array(group, "relevance")[number] = np.stack([r for r, _ in found]).astype(np.float32)
            array(group, "stderr")[number] = np.stack([e for _, e in found]).astype(np.float32)


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


def _create(folder: Path, store: ExpectationStore, about: dict[str, Any]) -> None:
    space, corner = store.windows.space, about["corner"]
    dimensions = ("item", "target", *AXES)
    shape = (len(store.items), len(store.targets), *space)
    chunk = (1, len(store.targets), *space)
    units = {Target.parse(text).unit for text in store.targets}
    unit = {"units": units.pop()} if len(units) == 1 else {}
    create(
        folder,
        {
            "relevance": Variable(
                dimensions,
                shape,
                chunk,
                {"long_name": "mean evidence of a voxel's windows", **unit},
            ),
            "stderr": Variable(
                dimensions, shape, chunk, {"long_name": "standard error from the draws", **unit}
            ),
        },
        {
            "item": ("item", np.array(store.items)),
            "target": ("target", np.array(store.targets)),
            **{a: (a, np.arange(c, c + n)) for a, c, n in zip(AXES, corner, space, strict=True)},
            "prediction": (
                ("item", "target"),
                np.asarray(array(store.group, "reference")[:]),
            ),
        },
        {**about[PROVENANCE], "expectations": store.path.name},
        {key: about[key] for key in ("corner", "space", "k", "classes", "training_size")},
    )
