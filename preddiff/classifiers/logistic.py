"""L2-penalised logistic regression: training and cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import linalg

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings
from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.slab import Slab
from preddiff.errors import InputError
from preddiff.settings.base import Name, Settings
from preddiff.windows import FloatArray

# Importing scikit-learn takes a second, so functions that need it import it.
if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Penalty = Annotated[float, Field(gt=0)]


class Logistic(Slab):
    """L2-penalised logistic regression (`preddiff train`)."""

    C: Penalty | list[Penalty] = Field(
        1.0,
        description="inverse strength of the L2 penalty, or a list from which inner "
        "cross-validation chooses",
    )
    folds: Annotated[int, Field(ge=2)] = Field(
        10, description="number of folds of the cross-validation"
    )
    inner_folds: Annotated[int, Field(ge=2)] = Field(
        5, description="number of folds of the inner cross-validation that chooses C"
    )


@CLASSIFIERS.register
class LogisticClassifier(ClassifierSettings, Logistic):
    """The paper's MRI classifier: an L2-penalised logistic regression, trained on a cohort."""

    command: ClassVar[str] = "train"
    files: ClassVar[tuple[str, ...]] = ("weights.npy", "weights.nii.gz", "cv.json", "cv.tsv")
    dimensions: ClassVar[int] = 3
    is_network: ClassVar[bool] = False
    has_exact_form: ClassVar[bool] = True
    has_layers: ClassVar[bool] = False

    kind: Literal["logistic"] = Field(description="logistic")
    dataset: Name = Field(description="name of the cohort that it is trained on")

    @property
    def ranks_classes(self) -> bool:
        """Targets name one of the two classes."""
        return False

    @property
    def channels(self) -> int:
        """One channel, the intensity."""
        return 1

    @property
    def training_dataset(self) -> str:
        """The cohort that it is trained on."""
        return self.dataset

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions of the linear classifier."""
        return LinearClassifier.code

    @property
    def stage_settings(self) -> Settings:
        """Slab, penalty and folds."""
        return self.part(Logistic)


@dataclass(frozen=True)
class Fit:
    """A fitted logistic regression.

    Attributes
    ----------
    weights : float64 array (p,)
    intercept : float
    C : float
        Inverse strength of the penalty, as given or chosen.
    """

    weights: FloatArray
    intercept: float
    C: float


def coordinates(x: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Express rows in an orthonormal basis of their span: x = z @ basis.T.

    The weights of an L2-penalised linear model lie in the span of its training rows, and an
    orthogonal change of coordinates changes neither the penalty nor the logits. So a model of n
    rows with p >> n voxels can be fitted in n dimensions, with the same solution.

    Parameters
    ----------
    x : array (n, p)

    Returns
    -------
    z : float64 array (n, min(n, p))
    basis : float64 array (p, min(n, p))
    """
    basis, triangle = linalg.qr(np.asarray(x, dtype=np.float64).T, mode="economic")
    return triangle.T, basis


def fit(
    x: NDArray[np.floating],
    y: NDArray[np.bool_],
    C: float | Sequence[float],
    *,
    inner_folds: int,
    seed: int,
) -> Fit:
    """Fit an L2 logistic regression.

    Parameters
    ----------
    x : array (n, p)
    y : bool array (n,)
        True for the second class.
    C : float or sequence of float
        Inverse strength of the penalty; of several values, the one with the highest accuracy in
        `inner_folds`-fold cross-validation.
    inner_folds, seed : int
        Number of folds and random seed of this cross-validation.

    Returns
    -------
    Fit
    """
    z, basis = coordinates(x)
    model, chosen = _fit(z, y, C, inner_folds, seed)
    return Fit(basis @ model.coef_[0], float(model.intercept_[0]), chosen)


def cross_validate(
    x: NDArray[np.floating],
    y: NDArray[np.bool_],
    C: float | Sequence[float],
    *,
    folds: int,
    inner_folds: int,
    seed: int,
) -> dict[str, Any]:
    """Cross-validate, stratified and shuffled; C is chosen within the training part of each fold.

    Parameters
    ----------
    x, y, C, inner_folds, seed
        As for `fit`.
    folds : int

    Returns
    -------
    dict
        Accuracy per fold, their mean and standard deviation, ROC-AUC over all held-out
        probabilities, the confusion table (rows: true, columns: predicted), the C of each fold,
        and each row's fold and held-out probability.

    Raises
    ------
    InputError
        If a class has fewer members than folds.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    smallest = min(np.count_nonzero(y), np.count_nonzero(~y))
    if smallest < folds:
        raise InputError(
            f"{folds} folds need at least {folds} subjects of each class, but the smaller class "
            f"has {smallest}: set the classifier's `folds` to {smallest} or less"
        )
    z, _ = coordinates(x)
    fold_of = np.empty(len(y), dtype=int)
    probability = np.empty(len(y))
    chosen = []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (train, test) in enumerate(splitter.split(z, y)):
        model, c = _fit(z[train], y[train], C, inner_folds, seed)
        fold_of[test] = fold
        probability[test] = model.predict_proba(z[test])[:, 1]
        chosen.append(c)
    correct = (probability > 0.5) == y
    accuracies = [float(correct[fold_of == fold].mean()) for fold in range(folds)]
    return {
        "folds": folds,
        "accuracy_per_fold": accuracies,
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies, ddof=1)),
        "roc_auc": float(roc_auc_score(y, probability)),
        "confusion": confusion_matrix(y, probability > 0.5).tolist(),
        "C_per_fold": chosen,
        "fold": fold_of.tolist(),
        "probability": probability.tolist(),
    }


def _fit(
    z: FloatArray,
    y: NDArray[np.bool_],
    C: float | Sequence[float],
    inner_folds: int,
    seed: int,
) -> "tuple[LogisticRegression, float]":
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    if isinstance(C, int | float):
        return _model(C).fit(z, y), float(C)
    splitter = StratifiedKFold(inner_folds, shuffle=True, random_state=seed)
    search = GridSearchCV(_model(1.0), {"C": list(C)}, cv=splitter, scoring="accuracy").fit(z, y)
    return search.best_estimator_, float(search.best_params_["C"])


def _model(C: float) -> "LogisticRegression":
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
