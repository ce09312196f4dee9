"""Nuisance variables of a cohort, as the columns of a linear model's design."""

from collections.abc import Sequence

import numpy as np

from preddiff.errors import InputError
from preddiff.windows import FloatArray


def design(names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], FloatArray]:
    """Code nuisance variables as numbers: text becomes one indicator for each value but the first.

    Parameters
    ----------
    names : sequence of str
        Names of the variables.
    rows : sequence of sequence of str
        By item: the values of the variables. A variable is numeric if all of its values are finite
        numbers.

    Returns
    -------
    columns : list of str
        The variables; indicators are called `NAME=VALUE`, in alphabetical order of the values.
    values : float64 array (items, columns)

    Raises
    ------
    InputError
        If a variable is the same for all items.
    """
    columns: list[str] = []
    found: list[FloatArray] = []
    for number, name in enumerate(names):
        texts = [row[number] for row in rows]
        if len(set(texts)) < 2:
            raise InputError(
                f"the nuisance variable '{name}' is the same for all items, '{texts[0]}': remove it"
            )
        values = _numbers(texts)
        if values is not None:
            columns.append(name)
            found.append(values)
            continue
        for level in sorted(set(texts))[1:]:
            columns.append(f"{name}={level}")
            found.append(np.array([text == level for text in texts], dtype=np.float64))
    return columns, np.stack(found, axis=1) if found else np.empty((len(rows), 0))


def _numbers(texts: Sequence[str]) -> FloatArray | None:
    """Convert to float64, unless one is not a finite number."""
    try:
        values = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None
