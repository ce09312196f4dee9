"""Which items and targets an explanation covers, and the class of each target for each item."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.methods.base import MethodSettings, TargetSettings
from preddiff.methods.prediction_difference import ExpectationSettings
from preddiff.samplers.base import Sources
from preddiff.storage.inputs import Inputs
from preddiff.storage.provenance import digest_json
from preddiff.targets import TRUE, Target, expand
from preddiff.windows import Windows

AnyClassifier = LinearClassifier | Network


def chosen_items(items: Items, settings: TargetSettings) -> list[str]:
    """Select the items that are explained, by name.

    Raises
    ------
    InputError
        If there is no such item.
    """
    if isinstance(settings.items, list):
        return [items.names[items.number(name)] for name in settings.items]
    held_out = ~items.training
    everything = items.are_volumes or not held_out.any()
    names = [n for n, kept in zip(items.names, held_out, strict=True) if kept or everything]
    return names[: settings.items]


def chosen_targets(
    settings: TargetSettings, classifier: AnyClassifier, default: str = "probability:top-1"
) -> list[Target]:
    """Select the targets that are explained.

    Parameters
    ----------
    settings : TargetSettings
    classifier : LinearClassifier or Network
    default : str
        Default target of classifiers that rank classes; for others it is the probability of the
        last class, or the last value.

    Raises
    ------
    InputError
        If the classifier has no such class or layer, or no output of such a kind.
    """
    if not classifier.has_probabilities:
        default = f"value:{classifier.classes[-1]}"
    elif not classifier.ranks_classes:
        default = f"probability:{classifier.classes[-1]}"
    targets = expand(settings.targets or [default], classifier.count_maps)
    for target in targets:
        problem = target.problem_with_outputs(classifier.has_probabilities)
        if problem is not None:
            raise InputError(problem)
    return targets


def target_classes(
    targets: Sequence[Target],
    items: Sequence[str],
    classifier: AnyClassifier,
    predictions: pd.DataFrame | None,
) -> NDArray[np.int64]:
    """Return the number of each target's class (items, targets); -1 for feature maps.

    Parameters
    ----------
    targets : sequence of Target
    items : sequence of str
    classifier : LinearClassifier or Network
    predictions : DataFrame, optional
        Table of `preddiff predict`, indexed by item; needed for true and top classes.

    Raises
    ------
    InputError
        If there is no such class, or the class of an item is unknown.
    """
    if not classifier.ranks_classes:
        numbers = [
            -1 if target.kind == "map" else classifier.class_number(target.label)
            for target in targets
        ]
        return np.tile(numbers, (len(items), 1))
    columns = [
        classes_of(target, items, classifier.class_number, predictions) for target in targets
    ]
    largest = max((number for column in columns for number in column), default=-1)
    if largest >= len(classifier.classes):
        raise InputError(
            "the table of predictions was made for another network; run preddiff predict again"
        )
    return np.array(columns, dtype=np.int64).T.reshape(len(items), len(targets))


def classes_of(
    target: Target,
    items: Sequence[str],
    class_number: Callable[[str], int],
    predictions: pd.DataFrame | None,
) -> list[int]:
    """Return the number of a target's class for each item; -1 for feature maps.

    Parameters
    ----------
    target : Target
    items : sequence of str
    class_number : callable
        Returns the number of a class from its name.
    predictions : DataFrame, optional
        What `read_predictions` returns; needed for true and top classes.

    Raises
    ------
    InputError
        If there is no such class, or the true class of an item is unknown.
    """
    if target.kind == "map":
        return [-1] * len(items)
    rank = target.rank
    if rank is None and target.label != TRUE:
        return [class_number(target.label)] * len(items)
    if predictions is None:
        raise InputError(f"target '{target}' needs the table of predictions (--predictions)")
    column = "class" if rank is None else f"top{rank}"
    if column not in predictions:
        known = sum(f"top{n}" in predictions for n in range(1, len(predictions.columns) + 1))
        raise InputError(
            f"target '{target}': only the top {known} classes are in the table of predictions"
        )
    unknown = [item for item in items if item not in predictions.index]
    if unknown:
        raise InputError(
            f"target '{target}': the table of predictions has no item '{unknown[0]}': run preddiff "
            "predict on this dataset"
        )
    found = [int(number) for number in predictions.loc[list(items), column]]
    for item, number in zip(items, found, strict=True):
        if number < 0:
            raise InputError(
                f"target '{target}': the true class of item '{item}' is unknown; add it to the "
                "dataset's sheet, or explain top-1"
            )
    return found


def item_digests(
    items: Items, names: Sequence[str], classes: NDArray[np.int64], classifier: AnyClassifier
) -> list[str]:
    """Return a digest of each explained item: name, values, and classes of its targets.

    What else the classifier's output for an item depends on counts too, if there is anything.
    """
    digests = []
    for name, row in zip(names, classes, strict=True):
        facts = classifier.facts_of(name)
        about = [name, items.digests[items.number(name)], [int(c) for c in row]]
        digests.append(digest_json([*about, facts] if facts else about))
    return digests


def code_of_maps(method: MethodSettings, classifier: Any) -> tuple[str, ...]:
    """Definitions that maps depend on: roots of `digest_code`.

    Parameters
    ----------
    method : MethodSettings
    classifier : Classifier or ClassifierSettings
    """
    kind = type(method)
    return (
        "preddiff.stages.map:_maps",
        "preddiff.stages.map:_values",
        "preddiff.datasets.items:Items",
        f"{kind.__module__}:{kind.__name__}",
        *method.code,
        *classifier.code,
    )


def windows_of(items: Items, classifier: AnyClassifier, settings: ExpectationSettings) -> Windows:
    """Return the windows of items by which a classifier, of a part of them, is explained.

    Raises
    ------
    InputError
        If they do not fit.
    """
    windows = settings.windows
    sizes = items.space, windows.k, windows.stride_or_default, classifier.slab
    if windows.goes_beyond_slab(settings.sampler):
        return Windows.overlapping(*sizes)
    return Windows(*sizes)


def sources_of(
    inputs: Inputs,
    items: Items,
    classifier: AnyClassifier,
    settings: ExpectationSettings,
    seed: int,
) -> Sources:
    """Return the data that the sampler of an explanation is made from.

    Parameters
    ----------
    inputs : Inputs
    items : Items
        The explained items, which are also the donors unless the inputs contain others.
    classifier : LinearClassifier or Network
    settings : ExpectationSettings
    seed : int

    Raises
    ------
    InputError
        If windows or surroundings do not fit.
    """
    donors = items if inputs.donors is None else Items(inputs.donors)
    l = settings.windows.l
    around = settings.sampler.context(windows_of(items, classifier, settings), l)
    return Sources(donors, classifier.slab, l, inputs.gaussian, seed, around)


def about_classifier(classifier: AnyClassifier) -> dict[str, Any]:
    """Return the attributes of a store that describe its classifier."""
    return {
        "corner": list(classifier.corner),
        "space": list(classifier.space),
        "classes": list(classifier.classes),
        "training_size": classifier.training_size,
    }
