"""Predictions: a network's table of top classes, and the classes of targets that it tells."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from preddiff.errors import InputError
from preddiff.targets import TRUE, Target

# Classes that are listed for each item.
TOP = 10


def read_predictions(path: Path) -> pd.DataFrame:
    """Read what `predict` wrote, by item.

    Raises
    ------
    InputError
        If there is no such table.
    """
    try:
        return pd.read_csv(path, sep="\t", dtype={"item": str}, keep_default_na=False).set_index(
            "item"
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of predictions; run preddiff predict") from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table that preddiff predict wrote ({error})") from None


def classes_of(
    target: Target,
    items: Sequence[str],
    class_number: Callable[[str], int],
    predictions: pd.DataFrame | None,
) -> list[int]:
    """Number of a target's class for each item; -1 for feature maps.

    Parameters
    ----------
    target : Target
    items : sequence of str
    class_number : callable
        Takes the name of a class to its number.
    predictions : DataFrame, optional
        What `read_predictions` returns; needed for true and top classes.

    Raises
    ------
    InputError
        If there is no such class, or an item's true class is not known.
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
        raise InputError(f"target '{target}': only the top {TOP} classes are known")
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
                f"target '{target}': the true class of item '{item}' is not known; name it in the "
                "dataset's sheet, or explain top-1"
            )
    return found
