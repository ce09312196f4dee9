"""Stage train-convolutional: cross-validate and train a small network on a cohort of volumes."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from preddiff.classifiers import convolutional
from preddiff.classifiers.convolutional import ConvolutionalTraining
from preddiff.classifiers.cross_validation import require_members, scores_of_classes
from preddiff.classifiers.held_out import save_folds
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import check_and_save, names_of_outputs
from preddiff.datasets.items import Items
from preddiff.datasets.slab import slab_of
from preddiff.devices import use_cores
from preddiff.progress import progress
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings
from preddiff.storage.writers import write_json, write_tsv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store of volumes")
    add_settings(parser, ConvolutionalTraining)
    add_path(parser, "--out", "folder for the classifier")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train and store the network."""
    use_cores(arguments.threads)
    settings = read_settings(arguments, ConvolutionalTraining)
    train_convolutional(arguments.data, settings, arguments.seed, arguments.out)


def train_convolutional(data: Path, settings: ConvolutionalTraining, seed: int, out: Path) -> None:
    """Train a small network on the training items of a cohort.

    It is trained once for each fold, without the fold's items, and then on all training items.
    Writes `cv.json`, `cv.tsv` (one row per training item), `folds` (the network of each fold), the
    weights and, last, `classifier.json`. Networks of folds are always written: they are small, and
    whether one of the explanations needs them does not change what is trained. Each network has the
    mean and standard deviation of its own training items.

    Parameters
    ----------
    data : Path
        Data store of volumes.
    settings : ConvolutionalTraining
    seed : int
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If the slab does not fit the volumes, or there are no classes, or too few items for the
        folds.
    """
    items = Items(data)
    slab = slab_of(items, settings)
    classes = names_of_outputs(items, "classes")
    numbers = np.flatnonzero(items.training)
    y = items.class_numbers[numbers]
    require_members(settings.folds, y, classes)
    x = items.read(numbers, slab)
    about = {"width": settings.width, "channels": x.shape[1], "space": list(x.shape[2:])}

    def fit(chosen: NDArray[np.int64], count: Callable[[int], object]) -> _Fitted:
        # What is held out must not be in the moments either.
        moments = items.training_moments(slab, numbers[chosen])
        standardisation = Standardisation(*moments, len(slab))
        network = convolutional.train(
            convolutional.build(settings.width, x.shape[1], x.shape[2:], len(classes)),
            standardisation.image(torch.from_numpy(x[chosen])).numpy(),
            y[chosen],
            epochs=settings.epochs,
            seed=seed,
            progress=count,
        )
        return _Fitted(network, standardisation)

    with progress(total=(settings.folds + 1) * settings.epochs, desc="train", unit="epoch") as bar:
        found = _cross_validate(x, y, settings.folds, seed, partial(fit, count=bar.update))
        of_all = fit(np.arange(len(y)), bar.update)
    out.mkdir(parents=True, exist_ok=True)
    write_tsv(_table(items, numbers, classes, y, found), out / "cv.tsv")
    chosen = found.probabilities.argmax(axis=1)
    scores = scores_of_classes(y, chosen, found.probabilities, found.fold, settings.folds)
    summary = {"classes": list(classes), "items": len(numbers), "folds": settings.folds}
    write_json({**summary, **scores}, out / "cv.json")

    def classifier(fitted: _Fitted, training_size: int) -> Network:
        return Network(
            prepared(fitted.network),
            architecture={"convolutional": about},
            classes=classes,
            training_size=training_size,
            space=x.shape[2:],
            standardisation=fitted.standardisation,
            first_voxel=tuple(part.start for part in slab),
        )

    sizes = len(y) - np.bincount(found.fold)
    folds = [classifier(one, int(n)) for one, n in zip(found.fitted, sizes, strict=True)]
    names = [items.names[number] for number in numbers]
    save_folds(out, folds, dict(zip(names, found.fold.tolist(), strict=True)))
    check_and_save(classifier(of_all, len(numbers)), out)


@dataclass(frozen=True)
class _Fitted:
    """A trained network, and how its input is standardised."""

    network: nn.Module
    standardisation: Standardisation

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities of the classes for items as they are stored, (n, classes)."""
        with torch.inference_mode():
            logits = self.network(self.standardisation.image(torch.from_numpy(x))).double()
        return torch.softmax(logits, 1).numpy()


@dataclass(frozen=True)
class _CrossValidation:
    """What the networks of the folds say of the items that they have not seen.

    Attributes
    ----------
    fitted : list of _Fitted
        By fold.
    fold : int64 array (n,)
        Fold in which each item is held out.
    probabilities : float64 array (n, classes)
        By the network of the fold.
    """

    fitted: list[_Fitted]
    fold: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def _cross_validate(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    folds: int,
    seed: int,
    fit: Callable[[NDArray[np.int64]], _Fitted],
) -> _CrossValidation:
    """Train a network for each fold, and classify the fold's items."""
    from sklearn.model_selection import StratifiedKFold

    fold = np.empty(len(y), dtype=np.int64)
    found = np.empty((len(y), int(y.max()) + 1))
    fitted = []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(np.zeros(len(y)), y)):
        fitted.append(fit(train))
        fold[test], found[test] = number, fitted[-1].probabilities(x[test])
    return _CrossValidation(fitted, fold, found)


def _table(
    items: Items,
    numbers: NDArray[np.int64],
    classes: tuple[str, ...],
    y: NDArray[np.int64],
    found: _CrossValidation,
) -> pd.DataFrame:
    """One row per training item, with what the network that has not seen it says of it."""
    chosen = found.probabilities.argmax(axis=1)
    return pd.DataFrame(
        {
            "item": [items.names[n] for n in numbers],
            "group": [items.groups[n] for n in numbers],
            "fold": found.fold,
            "predicted": [classes[number] for number in chosen],
            **{
                f"probability:{name}": column
                for name, column in zip(classes, found.probabilities.T, strict=True)
            },
            "correct": chosen == y,
        }
    )
