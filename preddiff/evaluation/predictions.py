"""Predictions: a network's table of top classes or of values, and how right they are."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.datasets.images import Classes, plain_name
from preddiff.datasets.tables import read_table
from preddiff.errors import InputError

# Classes that are listed for each item.
TOP = 10
_WORDNET_ID = r"n\d{8}"


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a table that the stage predict wrote.

    Returns
    -------
    DataFrame
        Indexed by item. Numbers of classes (`class`, `top1`, `top2`, ...) are int64, all else is
        text.

    Raises
    ------
    InputError
        If there is no such table, or it is none of predictions.
    """
    table = read_table(path, hint="run preddiff predict")
    try:
        numbers = {name: np.int64 for name in table if re.fullmatch(r"class|top\d+", str(name))}
        table = table.astype(numbers).set_index("item")
    except (KeyError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a table that preddiff predict wrote ({error})") from None
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{path}: not a table that preddiff predict wrote (item '{twice}' twice)")
    return table


def prediction_rows(
    items: Sequence[str],
    truth: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
) -> list[dict[str, object]]:
    """Rows of the table of predictions.

    Parameters
    ----------
    items : sequence of str
    truth : int array (items,)
        Number of each item's true class; -1 if unknown.
    probabilities : float array (items, classes)
    classes : sequence of str
        Names of the network's classes.

    Returns
    -------
    list of dict
        The item; its true class with name, rank (from 1) and probability, "" if unknown; number,
        name and probability of the top classes, at most `TOP`. Classes of equal probability are
        ranked by their numbers.
    """
    return [
        _row(item, int(number), p, classes)
        for item, number, p in zip(items, truth, probabilities, strict=True)
    ]


def _row(
    item: str, truth: int, p: NDArray[np.floating], classes: Sequence[str]
) -> dict[str, object]:
    order = np.argsort(-p, kind="stable")
    row: dict[str, object] = {
        "item": item,
        "class": truth,
        "name": classes[truth] if truth >= 0 else "",
        "rank": int(np.flatnonzero(order == truth)[0]) + 1 if truth >= 0 else "",
        "probability": p[truth] if truth >= 0 else "",
    }
    for rank, number in enumerate(order[:TOP], start=1):
        row[f"top{rank}"] = int(number)
        row[f"top{rank}_name"] = classes[number]
        row[f"top{rank}_probability"] = p[number]
    return row


def accuracy(table: pd.DataFrame, training: NDArray[np.bool_]) -> dict[str, object]:
    """How often predictions are right.

    Parameters
    ----------
    table : DataFrame
        Of `prediction_rows`, with one row for each item.
    training : bool array (items,)
        Whether an item is for training.

    Returns
    -------
    dict
        Numbers of items, and of those whose true class is known; of the latter, the shares whose
        true class has the highest probability (`top1`), or one of the five highest (`top5`); and
        `top1` over those not for training, if only some are.
    """
    known = (table["class"] >= 0).to_numpy()
    ranks = table["rank"][known].astype(int)
    scores: dict[str, object] = {"items": len(table), "items_of_known_class": int(known.sum())}
    if known.any():
        scores |= {"top1": float((ranks == 1).mean()), "top5": float((ranks <= 5).mean())}
    held_out = ~training[known]
    if held_out.any() and not held_out.all():
        scores["top1_of_items_not_for_training"] = float((ranks[held_out] == 1).mean())
    return scores


def value_rows(
    items: Sequence[str],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
) -> list[dict[str, object]]:
    """Rows of the table of predicted values.

    Parameters
    ----------
    items : sequence of str
    truth : float array (items,)
        True value of each item; NaN if unknown.
    predicted : float array (items,)

    Returns
    -------
    list of dict
        The item, its true value ("" if unknown), the prediction, and its error.
    """
    return [
        {
            "item": item,
            "value": float(own) if np.isfinite(own) else "",
            "predicted": float(found),
            "error": float(found - own) if np.isfinite(own) else "",
        }
        for item, own, found in zip(items, truth, predicted, strict=True)
    ]


def agreement(
    truth: NDArray[np.floating], predicted: NDArray[np.floating], training: NDArray[np.bool_]
) -> dict[str, object]:
    """How well predicted values agree with true ones.

    Parameters
    ----------
    truth, predicted : float array (items,)
        True values are NaN where they are unknown.
    training : bool array (items,)
        Whether an item is for training.

    Returns
    -------
    dict
        Numbers of items, and of those whose value is known; over the latter, the mean absolute
        error, the mean error (prediction less truth) and Pearson's correlation r, of at least two
        items whose values differ; and the same over those not for training, if only some are.
    """
    known = np.isfinite(truth)
    scores: dict[str, object] = {"items": len(truth), "items_of_known_value": int(known.sum())}
    held_out = known & ~training
    for chosen, suffix in ((known, ""), (held_out, "_of_items_not_for_training")):
        if chosen.any() and (not suffix or not (chosen == known).all()):
            scores |= {
                f"{name}{suffix}": value
                for name, value in _errors(truth[chosen], predicted[chosen]).items()
            }
    return scores


def _errors(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> dict[str, float]:
    error = predicted - truth
    found = {
        "mean_absolute_error": float(np.abs(error).mean()),
        "mean_error": float(error.mean()),
    }
    if len(truth) > 1 and np.ptp(truth) > 0 and np.ptp(predicted) > 0:
        found["r"] = float(np.corrcoef(truth, predicted)[0, 1])
    return found


def match_classes(own: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Number of each of a dataset's classes among those of a network.

    Classes are matched by their names. Where these are not the same, case, spaces and underscores
    are ignored. Classes called by their numbers, on either side, are matched by number. So are
    those in the same order, some of which one side calls by a longer name ("crane", "crane bird").

    Parameters
    ----------
    own, classes : sequence of str
        Names of all classes of the dataset, and of the network.

    Returns
    -------
    int64 array (classes,)

    Raises
    ------
    InputError
        If they are not equally many, have other names, or names that several classes share.
    """
    if len(own) != len(classes):
        raise InputError(
            f"the dataset has {len(own)} classes, the network {len(classes)}, so its folders or "
            "table do not tell the network's numbers: name a table of all classes as the dataset's "
            "`classes`"
        )
    in_order = np.arange(len(own))
    plain_own, plain = ([plain_name(name) for name in names] for names in (own, classes))
    as_numbers = [int(n) if n.isascii() and n.isdecimal() else -1 for n in own]
    by_name = _by_name(own, classes)
    if by_name is not None:
        return by_name
    if sorted(as_numbers) == list(in_order):
        return np.array(as_numbers)
    if list(classes) == [str(number) for number in in_order]:
        return in_order
    by_name = _by_name(plain_own, plain)
    if by_name is not None:
        return by_name
    if _have_one_order(plain_own, plain):
        return in_order
    raise InputError(_mismatch(own, classes))


def _by_name(own: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64] | None:
    numbers = {name: number for number, name in enumerate(classes)}
    if len(numbers) < len(classes) or numbers.keys() != set(own):
        return None
    return np.array([numbers[name] for name in own])


def _have_one_order(own: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether names are the same one by one, but for some that are longer on one side."""
    differ = [pair for pair in zip(own, classes, strict=True) if pair[0] != pair[1]]
    # A name that the other side has elsewhere would speak for another order.
    apart = {a for a, _ in differ}.isdisjoint(b for _, b in differ)
    return apart and all(_begins_with(*sorted(pair, key=len)) for pair in differ)


def _begins_with(short: str, long: str) -> bool:
    return bool(short) and long.startswith(short) and not long[len(short) :][:1].isalnum()


def _mismatch(own: Sequence[str], classes: Sequence[str]) -> str:
    if all(re.fullmatch(_WORDNET_ID, name) for name in own):
        return (
            "the dataset's classes are WordNet ids, the network's are not: name a table of all "
            "classes (class_index, wnid, class_name) as the dataset's `classes`"
        )
    way_out = (
        "give the dataset and the classifier the same table as their `classes`, or write the "
        "items' classes as numbers"
    )
    ours, theirs = ({plain_name(name) for name in names} for names in (own, classes))
    unknown = [
        f"the {side} does not have {_few([n for n in names if plain_name(n) not in others])}"
        for side, names, others in (("network", own, theirs), ("dataset", classes, ours))
        if not others.issuperset(map(plain_name, names))
    ]
    if unknown:
        return f"classes have other names: {', and '.join(unknown)}: {way_out}"
    plain = [plain_name(name) for name in own]
    shared = next(name for name in own if plain.count(plain_name(name)) > 1)
    return (
        f"'{shared}' is the name of several classes, which the dataset and the network have in "
        f"another order: {way_out}"
    )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 3 else shown


def true_classes(
    items: Sequence[str],
    labels: Sequence[str],
    numbers: NDArray[np.integer],
    own: Sequence[str],
    classes: Sequence[str],
) -> NDArray[np.int64]:
    """Number of each item's true class among a network's classes.

    Parameters
    ----------
    items, labels : sequence of str
        Names of the items, and their classes as the dataset gives them; "" if unknown.
    numbers : int array (items,)
        Numbers of their classes, among `own` if that is known; -1 where there are none.
    own, classes : sequence of str
        Names of all classes of the dataset, empty if it does not know them; of the network's.

    Returns
    -------
    int64 array (items,)
        -1 if unknown.

    Raises
    ------
    InputError
        If the network does not have such classes.
    """
    if own:
        return np.where(numbers >= 0, match_classes(own, classes)[numbers], -1)
    known = Classes(tuple(classes))
    return np.array(
        [
            _of_label(item, label, int(number), known)
            for item, label, number in zip(items, labels, numbers, strict=True)
        ]
    )


def _of_label(item: str, label: str, number: int, classes: Classes) -> int:
    if number >= len(classes.names):
        raise InputError(
            f"item '{item}': class {number} is beyond the network's {len(classes.names)} classes, "
            "which count from 0"
        )
    if number >= 0 or not label:
        return number
    if re.fullmatch(_WORDNET_ID, label):
        raise InputError(
            f"item '{item}': class '{label}' is a WordNet id: name a table of all classes "
            "(class_index, wnid, class_name) as the dataset's `classes`"
        )
    try:
        return classes.index(label)
    except InputError as error:
        raise InputError(f"item '{item}': {error}") from None
