"""Stage train: cross-validate the logistic regression, fit it on all training items, store it."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.logistic import cross_validate, fit
from preddiff.errors import InputError
from preddiff.files import write_atomically
from preddiff.items import Items
from preddiff.settings import Logistic, Slab


def train(data: Path, settings: Logistic, seed: int, out: Path) -> None:
    """Train the classifier of a data store.

    Writes `cv.json`, `cv.tsv` (one row per training item), `weights.npy`, `weights.nii.gz` (on
    the volumes' grid, 0 outside the slab) and, last, `classifier.json`.

    Raises
    ------
    InputError
        If the slab does not fit the volumes, or there are too few items for the folds.
    """
    items = Items(data)
    slab = slab_of(items, settings)
    numbers = np.flatnonzero(items.training)
    x = items.read(numbers, slab)
    y = np.array([items.groups[n] == items.classes[1] for n in numbers])
    rows = x.reshape(len(x), -1)
    score = cross_validate(
        rows, y, settings.C, folds=settings.folds, inner_folds=settings.inner_folds, seed=seed
    )
    fitted = fit(rows, y, settings.C, inner_folds=settings.inner_folds, seed=seed)
    classifier = LinearClassifier(
        weights=fitted.weights.reshape(x.shape[1:]),
        intercept=fitted.intercept,
        classes=items.classes,
        training_size=len(numbers),
        corner=tuple(part.start for part in slab),
    )
    out.mkdir(parents=True, exist_ok=True)
    _write_scores(out, items, numbers, y, score)
    save_volume(on_grid(classifier.weights[0], slab, items), items.affine, out / "weights.nii.gz")
    classifier.save(out, {"C": fitted.C, "settings": settings.model_dump(mode="json")})


def slab_of(items: Items, settings: Slab) -> tuple[slice, ...]:
    """Return the slab as slices of the volumes.

    Raises
    ------
    InputError
        If the slices lie outside the volumes.
    """
    first, last = settings.slices
    length = items.space[settings.axis]
    if last >= length:
        raise InputError(
            f"slices {first} to {last} of axis {settings.axis} lie outside the volumes of "
            f"{items.path}, which have {length} slices there (0 to {length - 1})"
        )
    slab = [slice(0, n) for n in items.space]
    slab[settings.axis] = slice(first, last + 1)
    return tuple(slab)


def on_grid(values: np.ndarray, slab: tuple[slice, ...], items: Items) -> np.ndarray:
    """Put a slab's values on the volumes' grid, 0 elsewhere, for viewers; float32."""
    volume = np.zeros(items.space, dtype=np.float32)
    volume[slab] = values
    return volume


def save_volume(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a NIfTI volume."""
    with write_atomically(path) as temporary:
        nib.save(nib.Nifti1Image(values, affine), temporary)


def _write_scores(
    out: Path, items: Items, numbers: np.ndarray, y: np.ndarray, score: dict[str, Any]
) -> None:
    per_item = pd.DataFrame(
        {
            "item": [items.names[n] for n in numbers],
            "group": [items.groups[n] for n in numbers],
            "fold": score["fold"],
            "probability": score["probability"],
            "correct": (np.array(score["probability"]) > 0.5) == y,
        }
    )
    summary = {key: value for key, value in score.items() if key not in ("fold", "probability")}
    summary = {"classes": list(items.classes), "items": len(numbers), **summary}
    with write_atomically(out / "cv.tsv") as temporary:
        per_item.to_csv(temporary, sep="\t", index=False)
    with write_atomically(out / "cv.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
