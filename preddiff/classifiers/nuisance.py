"""Nuisance variables that are regressed out of the voxels that a linear classifier is fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from preddiff.datasets.items import Items
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
    """

    variables: tuple[str, ...]
    names: tuple[str, ...]
    coefficients: FloatArray

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
        )

    def offsets(self, items: Items) -> FloatArray:
        """Compute what is added to the outputs for each item of a data store, (items, outputs).

        Raises
        ------
        InputError
            If there is no such variable, or it has other values than in the training.
        """
        names, design = columns_of(self.variables, items)
        if names != self.names:
            raise InputError(
                f"{items.path}: the nuisance variables are coded as {_listed(names)}, but the "
                f"classifier was trained with {_listed(self.names)}: explain a cohort in which "
                "they have the same values"
            )
        return design @ self.coefficients.T


def columns_of(variables: Sequence[str], items: Items) -> tuple[tuple[str, ...], FloatArray]:
    """Names (m,) and values (items, m) of the columns of a data store's design for some variables.

    Raises
    ------
    InputError
        If there is no such variable.
    """
    found: list[int] = []
    for variable in variables:
        coded = [
            number
            for number, name in enumerate(items.nuisance_names)
            if name == variable or name.startswith(f"{variable}=")
        ]
        if not coded:
            raise InputError(
                f"{items.path} has no nuisance variable '{variable}': add it to the dataset's "
                "`nuisance` columns"
            )
        found += coded
    return tuple(items.nuisance_names[number] for number in found), items.nuisance[:, found]


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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
