"""What the tables of a study say, in sentences.

Each function takes a table of one kind and returns sentences of names that a study's configuration
gives, which are plain identifiers, and of numbers: they can be put into any text as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from preddiff.evaluation.objects import CENTRE_BOX, CENTRE_GAUSSIAN

# Two-sided tests call differences from the reference clear below this p-value.
_CLEAR = 0.05

_MEASURES = {
    "roc_auc": "area under the ROC curve",
    "average_precision": "average precision",
    "iou": "overlap with the true box",
    "pointing": "pointing game",
    "f_measure": "F-measure",
}
_SMALLER_IS_BETTER = {"deletion"}
# Maps of images that do not depend on the image.
_BASELINES = (CENTRE_BOX, CENTRE_GAUSSIAN)


def of_cross_validation(classifier: str, scores: Mapping[str, Any]) -> list[str]:
    """Say how well a classifier that was trained by the study predicts what it has not seen.

    Parameters
    ----------
    classifier : str
    scores : mapping
        Contents of `cv.json`: of folds, or of items that were set apart. Nothing is said of other
        scores.
    """
    if "test_accuracy" in scores:
        return [
            f"The accuracy of {classifier} is {scores['test_accuracy']:.2f} on "
            f"{scores['test_items']} items that it was not trained on."
        ]
    if "folds" not in scores:
        return []
    how = f"in {scores['folds']}-fold cross-validation on {scores['items']} items"
    if "accuracy_mean" in scores:
        area = scores.get("roc_auc")
        also = "" if area is None else f", and its area under the ROC curve {area:.2f}"
        return [f"The accuracy of {classifier} is {scores['accuracy_mean']:.2f} {how}{also}."]
    error, of_mean = scores["mean_absolute_error"], scores["mean_absolute_error_of_mean"]
    return [
        f"The mean absolute error of {classifier} is {error:.3g} {how}, where the mean of the "
        f"training items is wrong by {of_mean:.3g}."
    ]


def of_predictions(name: str, scores: Mapping[str, Any]) -> list[str]:
    """Say how often a network's top class is the true one.

    Parameters
    ----------
    name : str
        Of the table.
    scores : mapping
        Contents of `predictions-*.json`.
    """
    if not scores.get("items_of_known_class"):
        return []
    others = scores.get("top1_of_items_not_for_training")
    also = "" if others is None else f" ({others:.1%} of those that it was not trained on)"
    return [
        f"The top class of {name} is the true class of {scores['top1']:.1%} of "
        f"{scores['items_of_known_class']} items{also}."
    ]


def of_localisation(name: str, table: pd.DataFrame) -> list[str]:
    """Say which maps find lesions or objects best, and whether they beat the baseline.

    Parameters
    ----------
    name : str
        Of the classifier, or of the table.
    table : DataFrame
        A summary: columns map, measure, mean, pairs, p_value and share_better (of volumes) or
        better (of images). The baseline is the map that is compared with nothing or, of images,
        that of the column reference.
    """
    table = table.rename(columns={"better": "share_better"})
    return [
        _best(name, str(measure), rows)
        for measure, rows in table.groupby("measure", sort=False)
        if rows["share_better"].notna().any() and measure in _MEASURES
    ]


def _best(name: str, measure: str, rows: pd.DataFrame) -> str:
    is_baseline = rows["share_better"].isna()
    if "reference" in rows:
        is_baseline = rows["map"] == rows["reference"]
        # The other baseline is no map that was asked for.
        rows = rows[is_baseline | ~rows["map"].isin(_BASELINES)]
    compared, baseline = rows[rows["share_better"].notna()], rows[is_baseline]
    best = compared.iloc[int(compared["mean"].to_numpy().argmax())]
    found = f"By {_MEASURES[measure]}, {best['map']} is the best map of {name} ({best['mean']:.3g}"
    other = baseline.iloc[-1]
    verdict = f"better on {best['share_better']:.0%} of {best['pairs']:.0f} items"
    if not best["p_value"] < _CLEAR:
        verdict += ", which may be chance"
    return f"{found}); the baseline {other['map']} has {other['mean']:.3g}: {verdict}."


def of_deletion(name: str, table: pd.DataFrame) -> list[str]:
    """Say which maps order windows best.

    Parameters
    ----------
    name : str
    table : DataFrame
        A summary: columns map, measure, mean, difference, difference_low and difference_high, the
        difference from random orders with its 95% interval.
    """
    sentences = []
    for measure, rows in table.groupby("measure", sort=False):
        compared = rows[rows["difference"].notna()]
        if not len(compared):
            continue
        sign = -1 if measure in _SMALLER_IS_BETTER else 1
        best = compared.iloc[int((sign * compared["difference"]).to_numpy().argmax())]
        low, high = best["difference_low"], best["difference_high"]
        found = (
            f"{best['difference']:+.3g} from random orders (95% interval {low:+.3g} to {high:+.3g})"
        )
        if min(sign * low, sign * high) > 0:
            sentences.append(
                f"By {measure}, {best['map']} orders the windows of {name} best: {found}."
            )
        else:
            sentences.append(
                f"By {measure}, no map orders the windows of {name} clearly better than at random; "
                f"the best, {best['map']}: {found}."
            )
    return sentences


def of_concepts(classifier: str, table: pd.DataFrame) -> list[str]:
    """Say how well an explanation network's features carry the scores of its classes.

    Parameters
    ----------
    classifier : str
    table : DataFrame
        Columns system, class, measure and value. Names of classes come from outside, and are left
        out.
    """
    errors = table[table["measure"] == "rmse_relative"].groupby("system")["value"].mean()
    if not {"srae", "nmf", "pca"} <= set(errors.index):
        return []
    return [
        f"The features of {classifier} leave {errors['srae']:.2f} of a score's standard deviation "
        f"unexplained, on average over its classes (NMF: {errors['nmf']:.2f}, PCA: "
        f"{errors['pca']:.2f})."
    ]


def of_foretold(table: pd.DataFrame) -> list[str]:
    """Name the explanations whose windows are foretold too well to show anything.

    Parameters
    ----------
    table : DataFrame
        Columns explanation, k, share_foretold and warning.
    """
    return [
        f"Windows of {row['explanation']} (k = {row['k']}) are foretold by their surroundings to "
        f"{row['share_foretold']:.2%}: its maps show next to nothing. Choose a larger k; "
        "preddiff scales lists the share by k."
        for _, row in table[table["warning"].notna()].iterrows()
    ]


def listed(sentences: Sequence[str]) -> str:
    """Sentences as a list in reStructuredText."""
    return "".join(f"- {sentence}\n" for sentence in sentences)
