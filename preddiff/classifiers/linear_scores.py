"""Scores of cross-validated linear models: accuracy and ROC-AUC, or mean absolute error and r."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from preddiff.classifiers.cross_validation import (
    require_count,
    require_members,
    scores_of_classes,
)
from preddiff.classifiers.linear_training import CrossValidation, LinearSettings
from preddiff.errors import InputError
from preddiff.windows import FloatArray, IntArray

# Predictions that vary less, as a share of the values' deviation, are the same.
_ROUNDING = 1e-9


def require_enough(
    settings: LinearSettings, y: IntArray | FloatArray, classes: Sequence[str]
) -> None:
    """Check that there are enough rows for the folds, and something to predict.

    Parameters
    ----------
    settings : LinearSettings
    y : int64 or float64 array (n,)
        Number of each row's class, or its value.
    classes : sequence of str
        Names of the classes, or of the value.

    Raises
    ------
    InputError
        If a class, or all rows, have fewer members than folds, or all values are the same; or if
        the penalty is chosen, and what trains a fold has fewer than inner folds.
    """
    if settings.predicts_values:
        if len(np.unique(y)) < 2:
            raise InputError(
                f"'{classes[0]}' is the same for all subjects that the regression is trained on: "
                "choose another `value` column"
            )
        require_count(settings.folds, len(y), f"{len(y)} subjects have a '{classes[0]}'")
        _require_inner(settings, len(y), " subjects")
        return
    numbers = np.asarray(y, dtype=np.int64)
    require_members(settings.folds, numbers, classes)
    counts = np.bincount(numbers)
    smallest = int(np.argmin(counts))
    _require_inner(settings, int(counts[smallest]), f" of '{classes[smallest]}'")


def _require_inner(settings: LinearSettings, count: int, of: str) -> None:
    """Check that what trains a fold can be divided again, if the penalty is chosen."""
    left = count - -(-count // settings.folds)
    if len(settings.penalties) > 1 and left < settings.inner_folds:
        fewer = f"the classifier's `inner_folds` to {left} or less, or " if left > 1 else ""
        raise InputError(
            f"{settings.inner_folds} inner folds choose {settings.penalty}, but what trains a fold "
            f"contains only {left}{of}: set {fewer}{settings.penalty} to a single number"
        )


def scores(
    settings: LinearSettings, y: IntArray | FloatArray, found: CrossValidation
) -> dict[str, Any]:
    """Score what the models of the folds say of the rows that they have not seen.

    Parameters
    ----------
    settings : LinearSettings
    y : int64 or float64 array (n,)
        Number of each row's class, or its value.
    found : CrossValidation

    Returns
    -------
    dict
        Of classes: see `scores_of_classes`. Of values: mean absolute error per fold, over all rows,
        and of predicting the mean of what trained the fold instead; and Pearson's r over all rows,
        of predictions and values as differences from that mean. It is lower where the values that
        are held out are higher, so that predictions that follow nothing else would have an r below
        0. The penalty of each fold.
    """
    kinds = _of_values if settings.predicts_values else _of_classes
    return {
        "folds": settings.folds,
        **kinds(settings, y, found),
        f"{settings.penalty}_per_fold": [one.penalty for one in found.fits],
    }


def predicted(settings: LinearSettings, outputs: FloatArray) -> IntArray:
    """Number of the class that is predicted, (n,), for outputs (n, columns)."""
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(axis=1))
    threshold = 0.5 if settings.has_probabilities else 0.0
    return (outputs[:, 0] > threshold).astype(np.int64)


def _of_classes(
    settings: LinearSettings, y: IntArray | FloatArray, found: CrossValidation
) -> dict[str, Any]:
    numbers = np.asarray(y, dtype=np.int64)
    chosen = predicted(settings, found.outputs)
    return scores_of_classes(numbers, chosen, found.outputs, found.fold, settings.folds)


def _of_values(
    settings: LinearSettings, y: IntArray | FloatArray, found: CrossValidation
) -> dict[str, Any]:
    from scipy.stats import pearsonr

    values, folds = found.outputs[:, 0], range(settings.folds)
    errors = np.abs(values - y)
    means = np.array([y[found.fold != fold].mean() for fold in folds])[found.fold]
    difference = values - means
    # A model that says the mean, but for rounding, correlates with nothing.
    varies = bool(difference.std() > _ROUNDING * y.std())
    return {
        "mean_absolute_error_per_fold": [float(errors[found.fold == n].mean()) for n in folds],
        "mean_absolute_error": float(errors.mean()),
        "mean_absolute_error_of_mean": float(np.abs(y - means).mean()),
        "pearson_r": float(pearsonr(difference, y - means).statistic) if varies else None,
    }
