"""Cross-validation of classifiers of cohorts: enough members for the folds, and scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from preddiff.errors import InputError
from preddiff.windows import FloatArray, IntArray


def require_members(folds: int, y: IntArray, classes: Sequence[str]) -> None:
    """Check that each class has as many members as there are folds.

    Parameters
    ----------
    folds : int
    y : int64 array (n,)
        Number of each row's class.
    classes : sequence of str

    Raises
    ------
    InputError
    """
    counts = np.bincount(y, minlength=len(classes))
    smallest = int(np.argmin(counts))
    about = f"the smaller class has {counts[smallest]}"
    if len(classes) > 2:
        about = f"class '{classes[smallest]}' has {counts[smallest]}"
    require_count(folds, int(counts[smallest]), about, " of each class")


def require_count(folds: int, count: int, about: str, each: str = "") -> None:
    """Check that there are as many subjects as folds.

    Parameters
    ----------
    folds, count : int
    about, each : str
        How many subjects there are, and of what there must be enough, for the message.

    Raises
    ------
    InputError
    """
    if count < folds:
        advice = f"set the classifier's `folds` to {count} or less"
        if count < 2:
            advice = "add subjects"
        raise InputError(
            f"{folds} folds need at least {folds} subjects{each}, but {about}: {advice}"
        )


def scores_of_classes(
    y: IntArray, chosen: IntArray, outputs: FloatArray, fold: IntArray, folds: int
) -> dict[str, Any]:
    """Score what the models of the folds say of the rows that they have not seen.

    Parameters
    ----------
    y, chosen : int64 array (n,)
        Number of each row's class, and of the class that is predicted.
    outputs : float64 array (n, classes) or (n, 1)
        One per class; or one for the second of two classes.
    fold : int64 array (n,)
        Fold that each row is held out in.
    folds : int

    Returns
    -------
    dict
        Accuracy per fold, their mean and standard deviation, ROC-AUC per fold (of more than two
        classes, the mean of each against the rest) and their mean, and the confusion table (rows:
        true, columns: predicted). ROC-AUC is not taken over all rows, since outputs of models that
        were fitted to different rows, or with another penalty, are on different scales.
    """
    # Importing scikit-learn takes a second.
    from sklearn.metrics import confusion_matrix, roc_auc_score

    parts = [fold == number for number in range(folds)]
    correct = chosen == y
    accuracies = [float(correct[part].mean()) for part in parts]
    columns = outputs.shape[1]
    wanted = [y == number for number in range(columns)] if columns > 1 else [y == 1]
    pairs = list(zip(wanted, outputs.T, strict=True))
    # One row per fold, one column per output.
    areas = [[roc_auc_score(own[part], one[part]) for own, one in pairs] for part in parts]
    return {
        "accuracy_per_fold": accuracies,
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies, ddof=1)),
        "roc_auc_per_fold": np.mean(areas, axis=1).tolist(),
        "roc_auc": float(np.mean(areas)),
        "confusion": confusion_matrix(y, chosen).tolist(),
    }
