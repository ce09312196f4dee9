"""Linear models of cohorts: fits in the span of the rows, folds, nuisance variables, scores."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import linalg
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression as LeastSquares
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.linear_model import RidgeClassifier as RidgeModel
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.svm import SVC

from preddiff.classifiers.linear_scores import require_enough, scores
from preddiff.classifiers.linear_training import (
    CrossValidation,
    LinearSettings,
    TrainingSet,
    cross_validate,
    fit,
)
from preddiff.classifiers.logistic import LogisticClassifier
from preddiff.classifiers.regression import LinearRegression
from preddiff.classifiers.ridge import RidgeClassifier
from preddiff.classifiers.svm import SupportVectorClassifier
from preddiff.errors import InputError

ROWS, VOXELS, SEED = 36, 200, 3
COMMON: dict[str, Any] = {"dataset": "cohort", "folds": 3, "inner_folds": 2}
LOGISTIC = LogisticClassifier(kind="logistic", C=0.3, **COMMON)
RIDGE = RidgeClassifier(kind="ridge", alpha=20.0, **COMMON)
SVM = SupportVectorClassifier(kind="svm", C=0.01, **COMMON)
REGRESSION = LinearRegression(kind="regression", alpha=30.0, **COMMON)

# The same models by scikit-learn alone, of all voxels.
DIRECT: dict[str, Callable[[], Any]] = {
    "logistic": lambda: LogisticRegression(C=0.3, tol=1e-10, max_iter=100_000),
    "ridge": lambda: RidgeModel(alpha=20.0),
    "svm": lambda: SVC(kernel="linear", C=0.01, tol=1e-9),
    "regression": lambda: Ridge(alpha=30.0),
}
SETTINGS: dict[str, LinearSettings] = {
    "logistic": LOGISTIC,
    "ridge": RIDGE,
    "svm": SVM,
    "regression": REGRESSION,
}
CLASSIFIERS = ["logistic", "ridge", "svm"]
NONE = np.empty((ROWS, 0))


def data(kind: str, classes: int = 2, nuisance: int = 0) -> TrainingSet:
    generator = np.random.default_rng(classes)
    y = np.arange(ROWS) % classes
    x = generator.normal(size=(ROWS, VOXELS)) + 4
    x[:, :20] += 2.0 * y[:, None]
    z = generator.normal(size=(ROWS, nuisance)) + 0.5 * y[:, None]
    x[:, 10:40] += z.sum(axis=1, keepdims=True)
    values = 40 + 3 * y + generator.normal(size=ROWS)
    return TrainingSet(x.astype(np.float32), values if kind == "regression" else y, z)


def outputs_of(model: Any, x: np.ndarray) -> np.ndarray:
    """What is explained, by scikit-learn alone: logits, decision values or values."""
    name = "decision_function" if hasattr(model, "decision_function") else "predict"
    return getattr(model, name)(x).reshape(len(x), -1)


@pytest.mark.parametrize("kind", SETTINGS)
def test_fits_are_those_of_all_voxels(kind: str) -> None:
    one = data(kind)
    found, model = fit(SETTINGS[kind], one, SEED), DIRECT[kind]().fit(one.x.astype(float), one.y)
    scale = np.abs(model.coef_).max()
    assert found.weights.shape == (1, VOXELS) and found.nuisance.shape == (1, 0)
    assert found.weights[0] == pytest.approx(np.ravel(model.coef_), abs=1e-4 * scale)
    assert found.intercepts[0] == pytest.approx(np.ravel(model.intercept_)[0], abs=1e-3)


def test_a_logistic_regression_of_two_classes_is_the_same_bits_as_in_earlier_versions() -> None:
    one = data("logistic")
    basis, triangle = linalg.qr(one.x.astype(np.float64).T, mode="economic")
    z, y = triangle.T, one.y == 1
    model = LogisticRegression(C=0.3, tol=1e-8, max_iter=10_000)
    found, folds = fit(LOGISTIC, one, SEED), cross_validate(LOGISTIC, one, SEED)
    model.fit(z, y)
    assert np.array_equal(found.weights[0], basis @ model.coef_[0])
    assert found.intercepts[0] == model.intercept_[0]
    splitter = StratifiedKFold(3, shuffle=True, random_state=SEED)
    for fold, (train, test) in enumerate(splitter.split(z, y)):
        expected = model.fit(z[train], y[train]).predict_proba(z[test])[:, 1]
        assert np.array_equal(folds.outputs[test, 0], expected)
        assert (folds.fold[test] == fold).all()


@pytest.mark.parametrize("kind", ["logistic", "ridge"])
def test_more_classes_have_an_output_each(kind: str) -> None:
    one = data(kind, classes=3)
    found, model = fit(SETTINGS[kind], one, SEED), DIRECT[kind]().fit(one.x.astype(float), one.y)
    expected = outputs_of(model, one.x.astype(float))
    assert found.weights.shape == (3, VOXELS)
    assert one.x @ found.weights.T + found.intercepts == pytest.approx(expected, abs=1e-3)


def test_a_support_vector_machine_of_more_classes_sets_each_against_the_rest() -> None:
    one = data("svm", classes=3)
    found = fit(SVM, one, SEED)
    for number in range(3):
        model = DIRECT["svm"]().fit(one.x.astype(float), one.y == number)
        expected = model.decision_function(one.x.astype(float))
        output = one.x @ found.weights[number] + found.intercepts[number]
        assert output == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("kind", "classes"), [("regression", 2), *((k, 2) for k in CLASSIFIERS)])
def test_nuisance_variables_are_regressed_out_within_folds(kind: str, classes: int) -> None:
    """Against an explicit loop over folds and voxels."""
    one = data(kind, classes, nuisance=2)
    found = cross_validate(SETTINGS[kind], one, SEED)
    splitter = (KFold if kind == "regression" else StratifiedKFold)(
        3, shuffle=True, random_state=SEED
    )
    x = one.x.astype(float)
    for fold, (train, test) in enumerate(splitter.split(x, one.y)):
        residuals = np.empty_like(x)
        for voxel in range(VOXELS):
            nuisance = LeastSquares().fit(one.nuisance[train], x[train, voxel])
            residuals[:, voxel] = x[:, voxel] - nuisance.predict(one.nuisance)
        model = DIRECT[kind]().fit(residuals[train], one.y[train])
        expected = outputs_of(model, residuals[test])
        assert (found.fold[test] == fold).all()
        # In terms of the voxels as they are, and of the variables.
        own = found.fits[fold]
        linear = x[test] @ own.weights.T + one.nuisance[test] @ own.nuisance.T + own.intercepts
        assert linear == pytest.approx(expected, abs=2e-3)
        outputs = found.outputs[test]
        if kind == "logistic":
            outputs = np.log(outputs / (1 - outputs))
        assert outputs == pytest.approx(expected, abs=2e-3)


def test_what_the_test_part_says_of_nuisance_is_not_used() -> None:
    one = data("ridge", nuisance=1)
    before = cross_validate(RIDGE, one, SEED)
    held_out = before.fold == 0
    other = TrainingSet(one.x, one.y, np.where(held_out[:, None], 100.0, one.nuisance))
    after = cross_validate(RIDGE, other, SEED)
    assert after.fits[0].weights == pytest.approx(before.fits[0].weights, abs=1e-12)
    assert after.fits[1].weights != pytest.approx(before.fits[1].weights, rel=1e-3)


def test_nuisance_variables_are_regressed_out_in_inner_folds_too() -> None:
    settings = LOGISTIC.model_copy(update={"C": [1e-4, 1e-2, 1.0]})
    one = data("logistic", nuisance=1)
    best, x = [], one.x.astype(float)
    splitter = StratifiedKFold(2, shuffle=True, random_state=SEED)
    for C in settings.penalties:
        accuracies = []
        for train, test in splitter.split(x, one.y):
            slope = LeastSquares().fit(one.nuisance[train], x[train])
            residuals = x - slope.predict(one.nuisance)
            model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
            accuracies.append(
                model.fit(residuals[train], one.y[train]).score(residuals[test], one.y[test])
            )
        best.append(np.mean(accuracies))
    assert fit(settings, one, SEED).penalty == settings.penalties[int(np.argmax(best))]


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_penalty_is_chosen_by_inner_cross_validation(kind: str) -> None:
    grid = [1e-4, 1e-1, 1e2, 1e4]
    own = SETTINGS[kind].model_copy(update={SETTINGS[kind].penalty: grid})
    one = data(kind)
    splitter = (KFold if kind == "regression" else StratifiedKFold)(
        2, shuffle=True, random_state=SEED
    )
    scoring = "neg_mean_absolute_error" if kind == "regression" else "accuracy"
    search = GridSearchCV(DIRECT[kind](), {own.penalty: grid}, cv=splitter, scoring=scoring)
    assert (
        fit(own, one, SEED).penalty
        == search.fit(one.x.astype(float), one.y).best_params_[own.penalty]
    )


def share_in_order(values: np.ndarray, wanted: np.ndarray) -> float:
    """Share of pairs of a member and another in which the member has the higher value."""
    above = values[wanted][:, None] - values[~wanted]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_classes(kind: str, classes: int) -> None:
    one = data(kind, classes)
    found = cross_validate(SETTINGS[kind], one, SEED)
    score = scores(SETTINGS[kind], one.y, found)
    columns = found.outputs
    if classes == 2:
        middle = 0.5 if kind == "logistic" else 0
        chosen, columns = columns[:, 0] > middle, np.column_stack([-columns, columns])
    else:
        chosen = columns.argmax(axis=1)
    areas = [
        np.mean([share_in_order(columns[test, n], one.y[test] == n) for n in range(classes)])
        for test in (found.fold == fold for fold in range(3))
    ]
    correct = chosen == one.y
    assert np.trace(score["confusion"]) == correct.sum()
    assert score["accuracy_per_fold"] == [correct[found.fold == n].mean() for n in range(3)]
    assert score["roc_auc_per_fold"] == pytest.approx(areas)
    assert score["roc_auc"] == pytest.approx(np.mean(areas))
    assert len(score[f"{SETTINGS[kind].penalty}_per_fold"]) == 3


def test_scores_of_values() -> None:
    one = data("regression")
    found = cross_validate(REGRESSION, one, SEED)
    score = scores(REGRESSION, one.y, found)
    errors = np.abs(found.outputs[:, 0] - one.y)
    assert score["mean_absolute_error"] == pytest.approx(errors.mean())
    assert score["mean_absolute_error_per_fold"] == [
        errors[found.fold == n].mean() for n in range(3)
    ]
    means = np.empty(ROWS)
    for train, test in KFold(3, shuffle=True, random_state=SEED).split(one.y):
        means[test] = one.y[train].mean()
    expected = pearsonr(found.outputs[:, 0] - means, one.y - means).statistic
    assert score["pearson_r"] == pytest.approx(expected) and expected > 0.3
    assert score["mean_absolute_error"] < score["mean_absolute_error_of_mean"]


def test_scales_of_folds_do_not_change_the_area() -> None:
    one = data("svm")
    found = cross_validate(SVM, one, SEED)
    other = found.outputs * np.array([1.0, 100.0, 1e4])[found.fold, None]
    shifted = replace(found, outputs=other + np.array([0.0, 50.0, -3e4])[found.fold, None])
    before, after = (scores(SVM, one.y, each) for each in (found, shifted))
    assert after["roc_auc_per_fold"] == before["roc_auc_per_fold"]


def test_predicting_the_mean_of_the_others_correlates_with_nothing() -> None:
    """Not by -1, as the means of what trains folds of one subject do over all subjects."""
    y = np.random.default_rng(0).normal(60, 8, ROWS)
    means = (y.sum() - y) / (ROWS - 1)
    settings = REGRESSION.model_copy(update={"folds": ROWS})
    assert pearsonr(means, y).statistic == pytest.approx(-1)
    found = CrossValidation(np.arange(ROWS), means[:, None], [])
    assert scores(settings, y, found)["pearson_r"] is None
    noise = np.random.default_rng(1).normal(size=ROWS)
    found = CrossValidation(np.arange(ROWS), (means + 1e-3 * noise)[:, None], [])
    assert scores(settings, y, found)["pearson_r"] == pytest.approx(pearsonr(noise, y).statistic)


@pytest.mark.parametrize(
    ("settings", "y", "classes", "message"),
    [
        (
            LOGISTIC,
            [0, 0, 0, 1, 1],
            ("a", "b"),
            "3 folds .* smaller class has 2: set .* `folds` to 2",
        ),
        (SVM, [0, 0, 0, 1, 2, 2, 2], ("a", "b", "c"), "class 'b' has 1: add subjects"),
        (SVM, [0, 0, 0, 2, 2, 2], ("a", "b", "c"), "class 'b' has 0: add subjects"),
        (REGRESSION, [1.0, 2.0], ("age",), "2 subjects have a 'age'"),
        (
            LOGISTIC.model_copy(update={"C": [0.1, 1.0], "inner_folds": 4}),
            [0, 0, 0, 0, 1, 1, 1],
            ("a", "b"),
            "4 inner folds choose C, but .* fold contains only 2 of 'b': set .* to 2 or less, or C",
        ),
        (
            RIDGE.model_copy(update={"alpha": [0.1, 1.0], "folds": 2}),
            [0] * 20 + [1] * 2,
            ("a", "b"),
            "2 inner folds choose alpha, but .* only 1 of 'b': set alpha to a single number",
        ),
        (
            REGRESSION.model_copy(update={"alpha": [0.1, 1.0], "inner_folds": 4}),
            [1.0, 2.0, 3.0, 4.0],
            ("age",),
            "fold contains only 2 subjects: set .* 2 or less, or alpha to a single number",
        ),
        (REGRESSION, [7.0] * 5, ("age",), "'age' is the same for all subjects"),
    ],
)
def test_too_little_to_learn_from_is_refused(settings, y, classes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_enough(settings, np.array(y), classes)
