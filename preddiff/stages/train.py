"""Stage train: cross-validate and fit a linear classifier or regression of a cohort."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.held_out import save_folds
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.linear_scores import predicted, require_enough, scores
from preddiff.classifiers.linear_training import (
    CrossValidation,
    Fit,
    LinearSettings,
    TrainingSet,
    cross_validate,
    fit,
)
from preddiff.classifiers.nuisance import Nuisance, columns_of, levels_of
from preddiff.classifiers.regressable import require_regressable
from preddiff.classifiers.stored import names_of_outputs
from preddiff.datasets.items import Items
from preddiff.datasets.slab import on_grid, save_volume, slab_of
from preddiff.settings.options import add_path, add_seed, add_settings, read_kind
from preddiff.storage.writers import write_json, write_tsv
from preddiff.windows import FloatArray, IntArray

COMMAND = "train"
# Kinds that this stage makes.
_KINDS = CLASSIFIERS.only(lambda kind: kind.command == COMMAND, default="logistic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_settings(parser, _KINDS, "dataset")
    add_path(parser, "--out", "folder for the classifier")
    add_seed(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train and store the classifier."""
    # The data store is given instead of the dataset's name.
    settings = read_kind(arguments, _KINDS, dataset="data")
    train(arguments.data, settings, arguments.seed, arguments.out)


def train(data: Path, settings: LinearSettings, seed: int, out: Path) -> None:
    """Train a classifier on a data store.

    Writes `cv.json`, `cv.tsv` (one row per training item), `weights.npy`, `weights.nii.gz` (on
    the volumes' grid, 0 outside the slab; of several outputs or channels, a volume for each channel
    of each output), `folds` (the model of each fold) and, last, `classifier.json`.

    Raises
    ------
    InputError
        If the slab does not fit the volumes, there are too few items for the folds, or nothing to
        predict, or nuisance variables cannot be regressed out.
    """
    items = Items(data)
    slab = slab_of(items, settings)
    classes = names_of_outputs(items, "value" if settings.predicts_values else "classes")
    numbers = np.flatnonzero(items.training)
    y = (items.values if settings.predicts_values else items.class_numbers)[numbers]
    require_enough(settings, y, classes)
    require_regressable(settings, items, y, classes, seed)
    names, design = columns_of(settings.regress_out, items)
    x = items.read(numbers, slab)
    rows = TrainingSet(x.reshape(len(x), -1), y, design[numbers])
    validated = cross_validate(settings, rows, seed)
    fitted = fit(settings, rows, seed)
    levels = levels_of(settings.regress_out, items)
    about = partial(_classifier, settings, classes, (names, levels), slab, x.shape[1:])
    classifier = about(fitted, len(numbers))
    out.mkdir(parents=True, exist_ok=True)
    write_tsv(_table(items, numbers, settings, classes, y, validated), out / "cv.tsv")
    names_of = {"value": classes[0]} if settings.predicts_values else {"classes": list(classes)}
    summary = {**names_of, "items": len(numbers), **scores(settings, y, validated)}
    write_json(summary, out / "cv.json")
    maps = classifier.maps.reshape(-1, *classifier.space)
    volumes = [on_grid(weights, slab, items) for weights in maps]
    volume = np.stack(volumes, axis=-1) if len(volumes) > 1 else volumes[0]
    save_volume(volume, items.affine, out / "weights.nii.gz")
    sizes = len(numbers) - np.bincount(validated.fold)
    folds = [about(one, int(size)) for one, size in zip(validated.fits, sizes, strict=True)]
    fold_of = zip(numbers, validated.fold.tolist(), strict=True)
    save_folds(out, folds, {items.names[number]: fold for number, fold in fold_of})
    description = settings.model_dump(mode="json", exclude={"dataset"})
    classifier.save(out, {settings.penalty: fitted.penalty, "settings": description})


def _classifier(
    settings: LinearSettings,
    classes: tuple[str, ...],
    nuisance: tuple[tuple[str, ...], dict[str, tuple[str, ...]]],
    slab: tuple[slice, ...],
    shape: tuple[int, ...],
    fitted: Fit,
    training_size: int,
) -> LinearClassifier:
    """A fitted classifier of inputs of some shape; of one output, without an axis of outputs."""
    names, levels = nuisance
    maps, one = fitted.weights.reshape(-1, *shape), len(fitted.weights) == 1
    return LinearClassifier(
        weights=maps[0] if one else maps,
        intercept=float(fitted.intercepts[0]) if one else fitted.intercepts,
        classes=classes,
        training_size=training_size,
        corner=tuple(part.start for part in slab),
        has_probabilities=settings.has_probabilities,
        nuisance=Nuisance(tuple(settings.regress_out), names, fitted.nuisance, levels)
        if names
        else None,
    )


def _table(
    items: Items,
    numbers: IntArray,
    settings: LinearSettings,
    classes: tuple[str, ...],
    y: IntArray | FloatArray,
    found: CrossValidation,
) -> pd.DataFrame:
    """One row per training item, with what the model that has not seen it says of it."""
    columns: dict[str, object] = {"item": [items.names[n] for n in numbers]}
    if settings.predicts_values:
        prediction = found.outputs[:, 0]
        columns |= {"fold": found.fold, "value": y, "prediction": prediction}
        return pd.DataFrame({**columns, "error": prediction - y})
    columns |= {"group": [items.groups[n] for n in numbers], "fold": found.fold}
    output = "probability" if settings.has_probabilities else "value"
    chosen = predicted(settings, found.outputs)
    if found.outputs.shape[1] == 1:
        columns[output] = found.outputs[:, 0]
    else:
        columns["predicted"] = [classes[number] for number in chosen]
        pairs = zip(classes, found.outputs.T, strict=True)
        columns |= {f"{output}:{name}": column for name, column in pairs}
    columns["correct"] = chosen == y
    return pd.DataFrame(columns)
