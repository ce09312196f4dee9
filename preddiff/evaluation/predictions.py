"""Predictions: a network's table of top classes, and the classes of targets that it tells."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from preddiff.datasets.tables import read_table
from preddiff.errors import InputError
from preddiff.targets import TRUE, Target

# Classes that are listed for each item.
TOP = 10


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
