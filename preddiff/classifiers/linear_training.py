"""Training and cross-validation of linear classifiers and regressions of cohorts of volumes."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import linalg

from preddiff.classifiers.base import ClassifierSettings, missing_column
from preddiff.classifiers.held_out import FOLDS, ITEMS
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.nuisance import after_regression
from preddiff.datasets.base import DatasetSettings
from preddiff.datasets.slab import Slab
from preddiff.settings.base import Name
from preddiff.windows import FloatArray, IntArray

Penalty: TypeAlias = Annotated[float, Field(gt=0)]
Penalties: TypeAlias = Penalty | Annotated[list[Penalty], Field(min_length=1)]


class LinearSettings(ClassifierSettings, Slab):
    """A linear model of a cohort's volumes, fitted by scikit-learn (`preddiff train`).

    Attributes
    ----------
    penalty : str
        Key of the strength of the penalty, here and in scikit-learn.
    predicts_values : bool
        Whether it predicts a number of each subject rather than its class.
    """

    command: ClassVar[str] = "train"
    files: ClassVar[tuple[str, ...]] = (
        "weights.npy",
        "weights.nii.gz",
        "cv.json",
        "cv.tsv",
        f"{FOLDS}/{ITEMS}",
    )
    is_network: ClassVar[bool] = False
    has_exact_form: ClassVar[bool] = True
    has_layers: ClassVar[bool] = False
    has_folds: ClassVar[bool] = True
    penalty: ClassVar[str]
    predicts_values: ClassVar[bool] = False

    dataset: Name = Field(description="name of the cohort that it is trained on")
    folds: Annotated[int, Field(ge=2)] = Field(
        10, description="number of folds of the cross-validation"
    )
    inner_folds: Annotated[int, Field(ge=2)] = Field(
        5, description="number of folds of the inner cross-validation that chooses the penalty"
    )
    regress_out: list[str] = Field(
        [],
        description="nuisance variables, among the dataset's `nuisance` columns, that are "
        "regressed out of the voxels; within folds, the regression is fitted to the training part",
    )

    @property
    def dimensions(self) -> int:
        """Three spatial axes."""
        return 3

    @property
    def ranks_classes(self) -> bool:
        """Targets name an output."""
        return False

    @property
    def training_dataset(self) -> str:
        """The cohort that it is trained on."""
        return self.dataset

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions of the linear classifier."""
        return LinearClassifier.code

    def problem_with(self, dataset: DatasetSettings) -> str | None:
        """Say what the dataset has no columns for, or what is regressed out of itself."""
        predicted = dataset.value_name if self.predicts_values else dataset.group_column
        for name in self.regress_out:
            if name == predicted:
                return f"regress_out: '{name}' is what it predicts: remove it"
            if name not in dataset.nuisance_variables:
                return f"regress_out: '{name}' is not among the dataset's `nuisance` columns"
        return missing_column(dataset, self.predicts_values)

    def model(self, outputs: int) -> Any:
        """Return the scikit-learn estimator, which is not fitted.

        Parameters
        ----------
        outputs : int
            Number of its outputs: of the classes, or 1 for two classes and for a value.
        """
        raise NotImplementedError

    @property
    def penalties(self) -> list[float]:
        """Strengths of the penalty from which inner cross-validation chooses; or a single one."""
        given = getattr(self, self.penalty)
        return list(given) if isinstance(given, list) else [given]


class DecisionSettings(LinearSettings):
    """A linear classifier without probabilities, whose decision values are explained."""

    @property
    def has_probabilities(self) -> bool:
        """Its outputs are decision values, positive for a class and negative for the others."""
        return False

    def names_of_outputs(self, dataset: DatasetSettings) -> tuple[str, ...]:
        """The classes."""
        return dataset.class_names


@dataclass(frozen=True)
class TrainingSet:
    """What a linear model is fitted to.

    Attributes
    ----------
    x : array (n, p)
        Voxels.
    y : int64 array (n,) or float64 array (n,)
        Number of each row's class, or its value.
    nuisance : float64 array (n, m)
        Variables that are regressed out of the voxels; m may be 0.
    """

    x: NDArray[np.floating]
    y: IntArray | FloatArray
    nuisance: FloatArray

    @property
    def outputs(self) -> int:
        """Number of outputs: of the classes, or 1 for two classes and for a value."""
        if np.issubdtype(self.y.dtype, np.floating):
            return 1
        classes = len(np.unique(self.y))
        return classes if classes > 2 else 1


@dataclass(frozen=True)
class Fit:
    """A fitted linear model, in terms of voxels as they are.

    Attributes
    ----------
    weights : float64 array (outputs, p)
    intercepts : float64 array (outputs,)
    nuisance : float64 array (outputs, m)
        Coefficients of the nuisance variables; see `preddiff.classifiers.nuisance.Nuisance`.
    penalty : float
        Strength of the penalty, as given or chosen.
    """

    weights: FloatArray
    intercepts: FloatArray
    nuisance: FloatArray
    penalty: float


@dataclass(frozen=True)
class CrossValidation:
    """Models of each fold, and what they say of the rows that they have not seen.

    Attributes
    ----------
    fold : int64 array (n,)
        Fold in which each row was held out.
    outputs : float64 array (n, columns)
        For held-out rows: of two classes the probability or decision value of the second; of more,
        those of all; or the value.
    fits : list of Fit
        By fold.
    """

    fold: IntArray
    outputs: FloatArray
    fits: list[Fit]


def coordinates(x: NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Express rows in an orthonormal basis of their span: x = z @ basis.T.

    The weights of an L2-penalised linear model lie in the span of its training rows, and an
    orthogonal change of coordinates changes neither the penalty nor the outputs. So a model of n
    rows with p >> n voxels can be fitted in n dimensions, with the same solution: logistic and
    ridge regression, and support vector machines. The regression on nuisance variables is linear
    and separate for each voxel, so that it has the same residuals in these coordinates.

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


def fit(settings: LinearSettings, data: TrainingSet, seed: int) -> Fit:
    """Fit a linear model.

    Of several strengths of the penalty, the one with the highest accuracy, or for values the lowest
    mean absolute error, in the inner cross-validation is chosen.

    Parameters
    ----------
    settings : LinearSettings
    data : TrainingSet
    seed : int
        Random seed of the inner cross-validation.

    Returns
    -------
    Fit
    """
    z, basis = coordinates(data.x)
    rows = np.hstack([z, data.nuisance])
    return _in_voxels(*_fitted(settings, data, rows, data.y, seed), basis)


def cross_validate(settings: LinearSettings, data: TrainingSet, seed: int) -> CrossValidation:
    """Cross-validate, shuffled, and stratified by class.

    The penalty is chosen, and nuisance variables are regressed out, within the training part of
    each fold.

    Parameters
    ----------
    settings : LinearSettings
    data : TrainingSet
    seed : int
        Random seed of the folds.

    Returns
    -------
    CrossValidation
    """
    z, basis = coordinates(data.x)
    rows = np.hstack([z, data.nuisance])
    fold_of, fits = np.empty(len(data.y), dtype=np.int64), []
    found: list[FloatArray] = [np.empty(0)] * len(data.y)
    for fold, (train, test) in enumerate(splits(settings, data.y, seed)):
        model, penalty = _fitted(settings, data, rows[train], data.y[train], seed)
        fold_of[test] = fold
        for row, outputs in zip(test, _outputs(settings, model, rows[test]), strict=True):
            found[row] = outputs
        fits.append(_in_voxels(model, penalty, basis))
    return CrossValidation(fold_of, np.array(found), fits)


def splits(
    settings: LinearSettings, y: IntArray | FloatArray, seed: int
) -> list[tuple[IntArray, IntArray]]:
    """Rows that train each fold of the cross-validation, and rows that it holds out.

    Parameters
    ----------
    settings : LinearSettings
    y : int64 or float64 array (n,)
        Number of each row's class, or its value.
    seed : int
    """
    return list(_splitter(settings.folds, y, seed).split(y, y))


def smallest_part(settings: LinearSettings, y: IntArray | FloatArray, seed: int) -> int:
    """Smallest number of rows that a model is fitted to, in the inner cross-validation too.

    Parameters are those of `splits`.
    """
    parts = [y[train] for train, _ in splits(settings, y, seed)]
    if len(settings.penalties) > 1:
        inner = [(one, _splitter(settings.inner_folds, one, seed)) for one in parts]
        return min(len(train) for one, splitter in inner for train, _ in splitter.split(one, one))
    return min(len(one) for one in parts)


def _splitter(folds: int, y: IntArray | FloatArray, seed: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = KFold if np.issubdtype(y.dtype, np.floating) else StratifiedKFold
    return kind(folds, shuffle=True, random_state=seed)


def _outputs(settings: LinearSettings, model: Any, rows: FloatArray) -> FloatArray:
    """Outputs of a fitted scikit-learn model, (n, columns); see `CrossValidation`."""
    if settings.predicts_values:
        found = model.predict(rows)
    elif settings.has_probabilities:
        found = model.predict_proba(rows)
        found = found[:, 1] if found.shape[1] == 2 else found
    else:
        found = model.decision_function(rows)
    return np.asarray(found, dtype=np.float64).reshape(len(rows), -1)


def _fitted(
    settings: LinearSettings,
    data: TrainingSet,
    rows: FloatArray,
    y: IntArray | FloatArray,
    seed: int,
) -> tuple[Any, float]:
    """A fitted scikit-learn model, and its penalty."""
    from sklearn.model_selection import GridSearchCV

    model = settings.model(data.outputs)
    if data.nuisance.shape[1]:
        model = after_regression(model, data.nuisance.shape[1])
    # Pipelines and models of one class against the rest put the names of their steps before it.
    key = next(k for k in model.get_params() if k.rpartition("__")[2] == settings.penalty)
    penalties = settings.penalties
    if len(penalties) == 1:
        return model.set_params(**{key: penalties[0]}).fit(rows, y), float(penalties[0])
    search = GridSearchCV(
        model,
        {key: penalties},
        cv=_splitter(settings.inner_folds, y, seed),
        scoring="neg_mean_absolute_error" if settings.predicts_values else "accuracy",
        error_score="raise",
    ).fit(rows, y)
    return search.best_estimator_, float(search.best_params_[key])


def _in_voxels(model: Any, penalty: float, basis: FloatArray) -> Fit:
    """Convert a model that was fitted in `coordinates` of voxels."""
    slopes, constants, last = None, None, model
    if hasattr(model, "named_steps"):
        regression = model.named_steps["residuals"].regression_
        slopes, constants, last = regression.coef_, regression.intercept_, model[-1]
    one_against_rest = getattr(last, "estimators_", [last])
    inner = np.vstack([np.atleast_2d(one.coef_) for one in one_against_rest])
    intercepts = np.hstack([np.atleast_1d(one.intercept_) for one in one_against_rest])
    nuisance = np.empty((len(inner), 0))
    if slopes is not None:
        nuisance = -(inner @ slopes)
        intercepts = intercepts - inner @ constants
    # One product per output, whose rounding does not depend on the number of outputs.
    weights = np.stack([basis @ row for row in inner])
    return Fit(weights, np.asarray(intercepts, dtype=np.float64), nuisance, penalty)
