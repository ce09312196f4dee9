"""Data of an explanation network: the items that it is trained and measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preddiff.classifiers.activations import Activations, read_activations
from preddiff.classifiers.explanation_network import ExplanationTraining
from preddiff.classifiers.network import Network
from preddiff.classifiers.srae import ExplanationHead
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.concepts import System, Truth
from preddiff.evaluation.predictions import true_classes

# Training items that each class needs.
FEWEST = 10
# Share of the items that is held out, if the dataset holds out none.
_HELD_OUT = 0.2
# Share of the items with the highest scores that count as those of a class without labels.
_HIGHEST = 0.1


@dataclass(frozen=True)
class ConceptData:
    """Activations and scores of training and held-out items.

    Attributes
    ----------
    layer : str
    axes : int
        Number of spatial axes of the layer.
    classes : list of int
        Numbers of the explained classes.
    training, held_out : Truth
    names : list of str
        Names of the held-out items.
    """

    layer: str
    axes: int
    classes: list[int]
    training: Truth
    held_out: Truth
    names: list[str]


def read_concept_data(
    network: Network,
    items: Items,
    settings: ExplanationTraining,
    seed: int,
    done: Callable[[int], object],
    expected: Callable[[int], object] = lambda count: None,
) -> ConceptData:
    """Evaluate a network for the items that explain some of its classes.

    Parameters
    ----------
    network : Network
    items : Items
    settings : ExplanationTraining
    seed : int
        Decides which items of other classes take part, and which are held out.
    done, expected : callable
        Called with the number of items that were evaluated, and with that of all, before.

    Raises
    ------
    InputError
        If a class is unknown, twice, or has too few items; or the layer is of no use.
    """
    chosen = _class_numbers(network, settings.classes)
    by_scores = settings.members == "scores"
    truth = np.full(len(items.names), -1) if by_scores else _true_classes(items, network)
    training, held_out = divide(truth, items.training, chosen, settings.others, seed)
    if by_scores:
        _require_enough_in_all(items, len(training))
    else:
        _require_enough(items, truth[training], network, chosen)
    if not len(held_out):
        raise InputError(f"{items.path} has too few items: none could be held out for measures")
    numbers = np.concatenate([training, held_out])
    expected(len(numbers))
    found = read_activations(network, settings.layer, items, numbers, done=done)
    count = len(training)
    if by_scores:
        scores = found.logits[:, chosen]
        own = scores >= np.quantile(scores[:count], 1 - _HIGHEST, axis=0)
    else:
        own = truth[numbers][:, None] == np.array(chosen)
    return ConceptData(
        found.layer,
        found.axes,
        chosen,
        _part(found, chosen, own, slice(0, count)),
        _part(found, chosen, own, slice(count, None)),
        [items.names[number] for number in held_out],
    )


def _part(found: Activations, chosen: list[int], own: NDArray[np.bool_], part: slice) -> Truth:
    return Truth(found.z[part], found.logits[part], chosen, own[part])


def _class_numbers(network: Network, labels: Sequence[str]) -> list[int]:
    chosen = [network.class_number(label) for label in labels]
    for label, number in zip(labels, chosen, strict=True):
        if chosen.count(number) > 1:
            raise InputError(f"classes: '{label}' is named twice")
    return chosen


def _true_classes(items: Items, network: Network) -> NDArray[np.int64]:
    try:
        found = true_classes(
            items.names, items.groups, items.class_numbers, items.classes, network.classes
        )
    except InputError as error:
        raise InputError(f"{items.path}: {error}") from None
    return np.asarray(found, dtype=np.int64)


def divide(
    truth: NDArray[np.int64],
    training: NDArray[np.bool_],
    chosen: Sequence[int],
    others: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the items that an explanation network is trained and measured on.

    Parameters
    ----------
    truth : int64 array (items,)
        Number of each item's class; -1 if unknown.
    training : bool array (items,)
        Whether an item is for training. If all are, or none is, a fifth is held out.
    chosen : sequence of int
        Classes whose items take part, all of them.
    others : int
        Largest number of other items that take part, in training and among those held out.
    seed : int

    Returns
    -------
    training, held_out : int64 arrays
        Numbers of the items, in ascending order.
    """
    generator = np.random.default_rng(seed)
    if training.all() or not training.any():
        order = generator.permutation(len(truth))
        training = np.ones(len(truth), dtype=bool)
        training[order[: round(_HELD_OUT * len(truth))]] = False
    own = np.isin(truth, chosen)
    parts = []
    for among in (training, ~training):
        rest = np.flatnonzero(among & ~own)
        if len(rest) > others:
            rest = generator.choice(rest, others, replace=False)
        parts.append(np.sort(np.concatenate([np.flatnonzero(among & own), rest])))
    return parts[0], parts[1]


def _require_enough(
    items: Items, truth: NDArray[np.int64], network: Network, chosen: Sequence[int]
) -> None:
    for number in chosen:
        count = int((truth == number).sum())
        if count < FEWEST:
            raise InputError(
                f"class '{network.classes[number]}' has {count} training items in {items.path}, "
                f"and an explanation network needs at least {FEWEST}: choose another class, or a "
                "dataset with more items of it"
            )


def _require_enough_in_all(items: Items, count: int) -> None:
    if count * _HIGHEST < FEWEST:
        raise InputError(
            f"{items.path} has {count} training items, and an explanation network of their highest "
            f"scores needs at least {round(FEWEST / _HIGHEST)}: use a dataset with more items"
        )


@torch.no_grad()
def explained_by(head: ExplanationHead, decoder: Any, activations: NDArray[np.float32]) -> System:
    """Explain the scores of items by an explanation network.

    Parameters
    ----------
    head : ExplanationHead
    decoder : nn.Module
    activations : float32 array (N, D)
    """
    features = head.encoder(torch.from_numpy(activations))
    contributions = head.contributions(features)
    return System(
        features.double().numpy(),
        contributions.unflatten(1, head.scores.shape).double().numpy(),
        head.scores(contributions).double().numpy(),
        decoder(features).double().numpy(),
    )
