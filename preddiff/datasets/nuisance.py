"""Nuisance variables of a cohort, as the columns of a linear model's design."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preddiff.errors import InputError
from preddiff.windows import FloatArray


@dataclass(frozen=True)
class Design:
    """Nuisance variables as numbers.

    Attributes
    ----------
    columns : list of str
        The variables; indicators of text are called `NAME=VALUE`, in alphabetical order of the
        values, without one for the first.
    values : float64 array (items, columns)
    levels : dict of str to list of str
        By name of each variable that is text: all of its values, in that order.
    """

    columns: list[str]
    values: FloatArray
    levels: dict[str, list[str]]


def design(names: Sequence[str], items: Sequence[str], rows: Sequence[Sequence[str]]) -> Design:
    """Code nuisance variables as numbers: text becomes one indicator for each value but the first.

    Parameters
    ----------
    names : sequence of str
        Names of the variables.
    items : sequence of str
        Names of the items, for messages.
    rows : sequence of sequence of str
        By item: the values of the variables. A variable is numeric if most of its values are
        numbers; then all must be.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        If a variable is the same for all items, a value of a numeric one is not a finite number, or
        text has more values than half the number of items, so that it tells items apart.
    """
    columns: list[str] = []
    values: list[FloatArray] = []
    levels: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        texts = [row[number] for row in rows]
        if len(set(texts)) < 2:
            raise InputError(
                f"the nuisance variable '{name}' is the same for all items, '{texts[0]}': remove it"
            )
        # Decimal commas are counted, so that they are refused rather than taken for text.
        if 2 * sum(_is_number(text.replace(",", ".")) for text in texts) > len(texts):
            columns.append(name)
            values.append(_numbers(name, items, texts))
            continue
        levels[name] = _levels(name, texts)
        columns += indicators(name, levels[name])
        for level in levels[name][1:]:
            values.append(np.array([text == level for text in texts], dtype=np.float64))
    stacked = np.stack(values, axis=1) if values else np.empty((len(rows), 0))
    return Design(columns, stacked, levels)


def indicators(name: str, levels: Sequence[str]) -> list[str]:
    """Names of the indicators of a variable that is text, whose values are given."""
    return [f"{name}={level}" for level in levels[1:]]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(name: str, items: Sequence[str], texts: Sequence[str]) -> FloatArray:
    for item, text in zip(items, texts, strict=True):
        if not _is_number(text):
            raise InputError(
                f"subject '{item}': '{text}' is no number, but the nuisance variable '{name}' is a "
                "number for most subjects: write a number, with a decimal point, or remove the "
                "subject. If they are codes, write all of them as text, such as 'site1'"
            )
    return np.array([float(text) for text in texts])


def _levels(name: str, texts: Sequence[str]) -> list[str]:
    found = sorted(set(texts))
    if 2 * len(found) > len(texts):
        raise InputError(
            f"the nuisance variable '{name}' is text with {len(found)} values for {len(texts)} "
            f"subjects, such as '{found[0]}' and '{found[-1]}', so that it would explain almost "
            "all of a volume: write numbers, merge values, or remove it"
        )
    return found
