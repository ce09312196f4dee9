"""Stored classifiers: reading any classifier, and storing networks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from preddiff.classifiers.base import CLASSIFIERS, Unit, kind_of, no_folds
from preddiff.classifiers.held_out import held_out
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import KIND, Network, check, prepared
from preddiff.classifiers.networks import NetworkSettings, VolumeNetworkSettings
from preddiff.classifiers.standardisation import Standardisation
from preddiff.datasets.images import read_classes
from preddiff.datasets.items import Items
from preddiff.datasets.slab import slab_of
from preddiff.errors import InputError


def load_classifier(
    folder: Path, items: Items | None = None, *, by_fold: bool = False
) -> LinearClassifier | Network:
    """Read a stored classifier.

    Parameters
    ----------
    folder : Path
    items : Items, optional
        Items that are explained, for classifiers whose output depends on nuisance variables.
    by_fold : bool
        Whether training items are seen by the models of the folds that held them out.

    Raises
    ------
    InputError
        If files are missing or damaged, the items have no such variables, or there are no models of
        folds.
    """
    path = folder / "classifier.json"
    try:
        kind = json.loads(path.read_text())["kind"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage of the classifier first") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not a stored classifier, or damaged ({error})") from None
    if kind == KIND:
        return load_network(folder, items, by_fold=by_fold)
    classifier = LinearClassifier.load(folder)
    if items is None:
        return classifier
    classifier = classifier.for_items(items)
    return held_out(classifier, folder, items) if by_fold else classifier


def load_network(folder: Path, items: Items | None = None, *, by_fold: bool = False) -> Network:
    """Read a stored network; see `load_classifier`."""
    network = Network.load(folder)
    if items is None or not by_fold:
        return network
    if not CLASSIFIERS[network.kind].has_folds:
        raise InputError(f"{folder}: the classifier {no_folds()}")
    return held_out(network, folder, items)


def unit_of(folder: Path, layer: str, number: int) -> Unit | None:
    """Return what a unit of a stored classifier's layer stands for; None if nothing is known.

    Parameters
    ----------
    folder : Path
        Folder of the classifier, which is not loaded.
    layer : str
    number : int
    """
    architecture = json.loads((folder / "classifier.json").read_text()).get("architecture")
    if architecture is None:
        return None
    return CLASSIFIERS[kind_of(architecture)].unit(architecture, layer, number)


def require_fit(items: Items, classifier: LinearClassifier | Network) -> None:
    """Check that the shape of items is that of a classifier's input, if it has a fixed one.

    Raises
    ------
    InputError
    """
    if classifier.cuts_items:
        _require_part(items, classifier)
        return
    if (items.channels, *items.space) != (classifier.channels, *classifier.space):
        raise InputError(
            f"{items.path} contains items of {items.channels} x "
            f"{' x '.join(map(str, items.space))}, but the network takes "
            f"{classifier.channels} x {' x '.join(map(str, classifier.space))}"
        )


def _require_part(items: Items, classifier: LinearClassifier | Network) -> None:
    """Check that the input of a classifier is a part of the items."""
    if items.channels != classifier.channels:
        raise InputError(
            f"{items.path} contains items of {items.channels} channels, but the classifier takes "
            f"{classifier.channels}"
        )
    inside = len(items.space) == len(classifier.space) and all(
        part.stop <= n for part, n in zip(classifier.slab, items.space, strict=True)
    )
    if not inside:
        raise InputError(
            f"{items.path} contains items of {' x '.join(map(str, items.space))} voxels, which do "
            f"not contain the classifier's input, {' x '.join(map(str, classifier.space))} voxels "
            f"from {', '.join(map(str, classifier.corner))} on"
        )


def store_network(
    network: nn.Module,
    architecture: Mapping[str, object],
    classes: tuple[str, ...],
    training_size: int,
    space: tuple[int, ...],
    standardisation: Standardisation,
    out: Path,
    first_voxel: tuple[int, ...] | None = None,
    has_probabilities: bool = True,
) -> None:
    """Store a network as a classifier.

    Parameters
    ----------
    network : nn.Module
    architecture : mapping
        Description from which it can be rebuilt, under the name of its kind.
    classes : tuple of str
    training_size : int
        Number N of training instances, for the Laplace correction.
    space : tuple of int
        Spatial shape of the input.
    standardisation : Standardisation
    out : Path
        Folder for the classifier.
    first_voxel : tuple of int, optional
        First voxel of the input within the items, if it is a part of them.
    has_probabilities : bool
        Whether its outputs are logits of classes, rather than other values.

    Raises
    ------
    InputError
        If it cannot be explained, or mean and std are not valid.
    """
    stored = Network(
        prepared(network),
        architecture,
        classes,
        training_size,
        space,
        standardisation,
        first_voxel=first_voxel,
        has_probabilities=has_probabilities,
    )
    check_and_save(stored, out)


def check_and_save(network: Network, out: Path) -> None:
    """Store a network as a classifier.

    Parameters
    ----------
    network : Network
        Its digest does not count.
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If it cannot be explained, or mean and std are not valid.
    """
    mean, std = network.standardisation.mean, network.standardisation.std
    if len(mean) != len(std) or not np.all(std):
        raise InputError("mean and std need one number per channel, and std must not contain 0")
    check(network)
    network.save(out)


def store_volume_network(
    network: nn.Module,
    architecture: Mapping[str, object],
    settings: VolumeNetworkSettings,
    names: tuple[str, ...],
    items: Items,
    out: Path,
) -> None:
    """Store a network of volumes as a classifier.

    Parameters
    ----------
    network : nn.Module
    architecture : mapping
        See `store_network`.
    settings : VolumeNetworkSettings
    names : tuple of str
        Names of its classes; if empty, those of the dataset, or the number that it predicts.
    items : Items
        The cohort that it was trained on.
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If it cannot be explained, or the dataset has no classes, or no number.
    """
    slab = slab_of(items, settings)
    if settings.mean is None or settings.std is None:
        # Settings have both or none.
        mean, std = items.training_moments(slab)
    else:
        mean, std = tuple(settings.mean), tuple(settings.std)
    if len(mean) != items.channels:
        raise InputError(
            f"{items.path} contains items of {items.channels} channels, but mean and std have "
            f"{len(mean)} numbers"
        )
    store_network(
        network,
        architecture,
        names or names_of_outputs(items, settings.outputs),
        settings.training_size or int(items.training.sum()),
        tuple(part.stop - part.start for part in slab),
        Standardisation(mean, std, len(slab)),
        out,
        first_voxel=tuple(part.start for part in slab),
        has_probabilities=settings.outputs == "classes",
    )


def names_of_outputs(items: Items, outputs: Literal["classes", "value"]) -> tuple[str, ...]:
    """Return the names of the outputs of a classifier that was trained on a cohort.

    Raises
    ------
    InputError
        If the cohort has no classes, or no number.
    """
    if outputs == "value":
        if items.value_name is None:
            raise InputError(
                f"{items.path} has no number that could be predicted: name its column as the "
                "dataset's `value`"
            )
        return (items.value_name,)
    if not items.classes:
        raise InputError(f"{items.path} has no classes: name their column as the dataset's `group`")
    return items.classes


def class_names(settings: NetworkSettings) -> tuple[str, ...]:
    """Read the names of a network's classes from the user's file; empty if there is none.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    return () if settings.classes is None else read_classes(settings.classes).names
