"""Nuisance variables that are regressed out of the voxels that a linear classifier is fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from preddiff.datasets.items import Items
from preddiff.datasets.nuisance import indicators
from preddiff.errors import InputError
from preddiff.windows import FloatArray


@dataclass(frozen=True)
class Nuisance:
    """What nuisance variables add to the outputs of a linear classifier.

    A classifier that was fitted to the residuals x - (z B + a) of voxels x has the outputs
    w . (x - z B - a) + b = w . x - (w B) . z + (b - w . a): it is linear in the voxels as they are,
    with an offset that depends on the item's variables z.

    Attributes
    ----------
    variables : tuple of str
        Columns of the cohort's table.
    names : tuple of str
        Columns of the design: the variables, or indicators `NAME=VALUE` of their values.
    coefficients : float64 array (outputs, names)
        -(w B).
    levels : dict of str to tuple of str
        By name of each variable that is text: all of its values in the training cohort.
    """

    variables: tuple[str, ...]
    names: tuple[str, ...]
    coefficients: FloatArray
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """Return a description, for JSON."""
        return {**asdict(self), "coefficients": self.coefficients.tolist()}

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "Nuisance":
        """Read what `described` returned.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is damaged.
        """
        return cls(
            variables=tuple(str(name) for name in description["variables"]),
            names=tuple(str(name) for name in description["names"]),
            coefficients=np.array(description["coefficients"], dtype=np.float64),
            levels={str(k): tuple(map(str, v)) for k, v in dict(description["levels"]).items()},
        )

    def offsets(self, items: Items) -> FloatArray:
        """Compute what is added to the outputs for each item of a data store, (items, outputs).

        Raises
        ------
        InputError
            If there is no such variable, or it has other values than in the training cohort: the
            coefficient of an indicator is a difference from the first value.
        """
        _, design = columns_of(self.variables, items)
        for variable in self.variables:
            found, trained = (_kind(variable, of) for of in (items.nuisance_levels, self.levels))
            if found != trained:
                raise InputError(
                    f"{items.path}: the nuisance variable '{variable}' is {found}, but the "
                    f"classifier was trained with {trained}: explain a cohort in which it has the "
                    "same values"
                )
        return design @ self.coefficients.T


def levels_of(variables: Sequence[str], items: Items) -> dict[str, tuple[str, ...]]:
    """Values of those variables of a data store that are text."""
    known = items.nuisance_levels
    return {variable: known[variable] for variable in variables if variable in known}


def columns_of(variables: Sequence[str], items: Items) -> tuple[tuple[str, ...], FloatArray]:
    """Names (m,) and values (items, m) of the columns of a data store's design for some variables.

    Raises
    ------
    InputError
        If there is no such variable.
    """
    names: list[str] = []
    for variable in variables:
        levels = items.nuisance_levels.get(variable)
        coded = [variable] if levels is None else indicators(variable, levels)
        if not {*coded} <= {*items.nuisance_names}:
            raise InputError(
                f"{items.path} has no nuisance variable '{variable}': add it to the dataset's "
                "`nuisance` columns"
            )
        names += coded
    numbers = [items.nuisance_names.index(name) for name in names]
    return tuple(names), items.nuisance[:, numbers]


def after_regression(model: Any, columns: int) -> Any:
    """Return a model that is fitted to the residuals of features on nuisance variables.

    Parameters
    ----------
    model : scikit-learn estimator
    columns : int
        Number of nuisance variables, which are the last columns of what the pipeline is given.

    Returns
    -------
    scikit-learn Pipeline
        With the steps `residuals` and `model`. The regression is fitted to the rows that the
        pipeline is fitted to, and to no others: within folds, to the training part.
    """
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    # Here, since importing scikit-learn takes a second.
    class Residuals(TransformerMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, x: FloatArray, y: Any = None) -> "Residuals":
            self.regression_ = LinearRegression().fit(x[:, -columns:], x[:, :-columns])
            return self

        def transform(self, x: FloatArray) -> FloatArray:
            return x[:, :-columns] - self.regression_.predict(x[:, -columns:])

    return Pipeline([("residuals", Residuals()), ("model", model)])


def _kind(variable: str, levels: Mapping[str, Sequence[str]]) -> str:
    """What a variable is, in words: a number, or text of some values."""
    if variable not in levels:
        return "a number"
    return f"text ({', '.join(levels[variable])})"
