"""Stage train: cross-validate and fit the L2 logistic regression."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.logistic import Logistic, cross_validate, fit
from preddiff.datasets.items import Items
from preddiff.datasets.slab import on_grid, save_volume, slab_of
from preddiff.settings.options import add_path, add_seed, add_settings, read_settings
from preddiff.storage.writers import write_json, write_tsv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_settings(parser, Logistic)
    add_path(parser, "--out", "folder for the classifier")
    add_seed(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train and store the classifier."""
    train(arguments.data, read_settings(arguments, Logistic), arguments.seed, arguments.out)


def train(data: Path, settings: Logistic, seed: int, out: Path) -> None:
    """Train a classifier on a data store.

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
        classes=(items.classes[0], items.classes[1]),
        training_size=len(numbers),
        corner=tuple(part.start for part in slab),
    )
    out.mkdir(parents=True, exist_ok=True)
    _write_scores(out, items, numbers, y, score)
    save_volume(on_grid(classifier.weights[0], slab, items), items.affine, out / "weights.nii.gz")
    classifier.save(out, {"C": fitted.C, "settings": settings.model_dump(mode="json")})


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
    write_tsv(per_item, out / "cv.tsv")
    write_json(summary, out / "cv.json")
