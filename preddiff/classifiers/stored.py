"""Stored classifiers: writing networks, and reading back whatever a folder holds."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import KIND, Network, check, prepared
from preddiff.classifiers.networks import NetworkSettings
from preddiff.classifiers.standardisation import Standardisation
from preddiff.datasets.images import read_classes
from preddiff.datasets.items import Items
from preddiff.errors import InputError


def load_classifier(folder: Path) -> LinearClassifier | Network:
    """Read a stored classifier.

    Raises
    ------
    InputError
        If files are missing or damaged.
    """
    path = folder / "classifier.json"
    try:
        kind = json.loads(path.read_text())["kind"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the classifier first") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not a stored classifier, or damaged ({error})") from None
    return Network.load(folder) if kind == KIND else LinearClassifier.load(folder)


def require_fit(items: Items, classifier: LinearClassifier | Network) -> None:
    """Refuse items of another shape than a classifier's input, unless it cuts that out of them.

    Raises
    ------
    InputError
    """
    if classifier.cuts_items:
        return
    if (items.channels, *items.space) != (classifier.channels, *classifier.space):
        raise InputError(
            f"{items.path} holds items of {items.channels} x {' x '.join(map(str, items.space))}, "
            f"the network takes {classifier.channels} x {' x '.join(map(str, classifier.space))}"
        )


def store_network(
    network: nn.Module,
    architecture: Mapping[str, object],
    classes: tuple[str, ...],
    training_size: int,
    space: tuple[int, ...],
    standardisation: Standardisation,
    out: Path,
) -> None:
    """Store a network as a classifier.

    Parameters
    ----------
    network : nn.Module
    architecture : mapping
        What it is built from again, by the name of its kind.
    classes : tuple of str
    training_size : int
        Number N of training instances, for the Laplace correction.
    space : tuple of int
        Spatial shape of the input.
    standardisation : Standardisation
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If it cannot be explained, or mean and std do not fit together.
    """
    if len(standardisation.mean) != len(standardisation.std) or not np.all(standardisation.std):
        raise InputError("mean and std need one number for each channel, std none that is 0")
    stored = Network(
        prepared(network), architecture, classes, training_size, space, standardisation
    )
    check(stored)
    stored.save(out)


def class_names(settings: NetworkSettings) -> tuple[str, ...]:
    """Names of a network's classes from the user's file; empty if there is none.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    return () if settings.classes is None else read_classes(settings.classes).names
