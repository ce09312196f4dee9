"""What tables say, in sentences: the right map, number and verdict."""

import io

import pandas as pd
import pytest

from preddiff.evaluation import findings


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text.replace(" ", "\t")), sep="\t")


def test_cross_validation() -> None:
    (sentence,) = findings.of_cross_validation(
        "logistic", {"folds": 10, "items": 140, "accuracy_mean": 0.75, "roc_auc": 0.8379}
    )
    assert sentence == (
        "The accuracy of logistic is 0.75 in 10-fold cross-validation on 140 items, and its area "
        "under the ROC curve 0.84."
    )
    several = {"folds": 5, "items": 30, "accuracy_mean": 0.5, "roc_auc": None}
    assert findings.of_cross_validation("svm", several) == [
        "The accuracy of svm is 0.50 in 5-fold cross-validation on 30 items."
    ]


def test_cross_validation_of_values() -> None:
    scores = {
        "folds": 10, "items": 30, "mean_absolute_error": 4.321, "mean_absolute_error_of_mean": 9.8,
    }  # fmt: skip
    (sentence,) = findings.of_cross_validation("age", scores)
    assert "is 4.32 in 10-fold" in sentence and "wrong by 9.8" in sentence


def test_other_scores_of_training() -> None:
    (sentence,) = findings.of_cross_validation("cnn", {"test_items": 450, "test_accuracy": 0.991})
    assert sentence == "The accuracy of cnn is 0.99 on 450 items that it was not trained on."
    assert findings.of_cross_validation("xnn", {"all": {"agreement": 1}}) == []


def test_predictions() -> None:
    scores = {"items_of_known_class": 34, "top1": 0.9118}
    assert findings.of_predictions("photos", scores) == [
        "The top class of photos is the true class of 91.2% of 34 items."
    ]
    scores["top1_of_items_not_for_training"] = 0.5
    assert "(50.0% of those" in findings.of_predictions("photos", scores)[0]
    assert findings.of_predictions("age", {"items": 3, "mean_absolute_error": 2.0}) == []


@pytest.mark.parametrize(("p", "doubt"), [(0.001, False), (0.2, True)])
def test_localisation_in_volumes(p: float, doubt: bool) -> None:
    summary = table(
        "map measure mean pairs share_better p_value\n"
        "conditional roc_auc 0.8 10 0.1 0.9\n"
        f"marginal roc_auc 0.93 10 0.9 {p}\n"
        "weights roc_auc 0.90 10  \n"
    )
    (sentence,) = findings.of_localisation("logistic", summary)
    assert "marginal is the best map of logistic (0.93)" in sentence
    assert "baseline weights has 0.9: better on 90% of 10 items" in sentence
    assert ("chance" in sentence) is doubt


def test_localisation_in_images() -> None:
    """Each measure has a baseline of its own; the other one is no map that was asked for."""
    summary = table(
        "map measure reference mean pairs better p_value\n"
        "pda iou centre-box 0.4 20 0.2 0.01\n"
        "centre-box iou centre-box 0.5 20  \n"
        "centre-gaussian iou centre-box 0.9 20 1 0.01\n"
        "pda mae centre-gaussian 0.1 20 0.2 0.01\n"
    )
    (sentence,) = findings.of_localisation("photos", summary)
    assert "overlap with the true box, pda is the best" in sentence
    assert "centre-box has 0.5: better on 20% of 20 items" in sentence


def test_nothing_is_said_where_nothing_is_compared() -> None:
    empty = table("map measure mean pairs share_better p_value\npda roc_auc 0.5 0  \n")
    assert findings.of_localisation("logistic", empty) == []


def test_deletion_is_better_where_it_falls_more() -> None:
    summary = table(
        "map measure difference difference_low difference_high\n"
        "a deletion -0.2 -0.3 -0.1\n"
        "b deletion 0.1 -0.1 0.2\n"
        "random deletion   \n"
        "a insertion 0.01 -0.1 0.1\n"
        "b insertion 0.02 -0.1 0.1\n"
    )
    deletion, insertion = findings.of_deletion("net", summary)
    assert "By deletion, a orders the windows of net best: -0.2" in deletion
    assert insertion.startswith("By insertion, no map orders the windows of net clearly better")
    assert "the best, b: +0.02" in insertion


def test_maps_that_are_worse_than_random_are_not_called_best() -> None:
    summary = table(
        "map measure difference difference_low difference_high\na deletion 0.2 0.1 0.3\n"
    )
    (sentence,) = findings.of_deletion("net", summary)
    assert sentence.startswith("By deletion, no map orders")


def test_concepts_name_no_classes() -> None:
    """Names of classes come from outside, and could be markup."""
    summary = table(
        "system class measure value\n"
        "srae <b> rmse_relative 0.1\nsrae d rmse_relative 0.3\n"
        "nmf <b> rmse_relative 0.5\npca <b> rmse_relative 0.4\n"
    )
    (sentence,) = findings.of_concepts("xnn", summary)
    assert "leave 0.20 of" in sentence and "NMF: 0.50, PCA: 0.40" in sentence
    assert "<b>" not in sentence


def test_warnings_are_of_windows_that_are_foretold() -> None:
    scales = table("explanation k share_foretold warning\nk2 2 0.9925 much\nk5 5 0.96 \n")
    (sentence,) = findings.of_foretold(scales)
    assert "Windows of k2 (k = 2)" in sentence and "99.25%" in sentence
