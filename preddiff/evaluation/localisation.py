"""How well maps of relevance find sites that are known: planted or annotated voxels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from preddiff.errors import InputError
from preddiff.evaluation.paired import Comparison, comparisons, signed_rank_p

MEASURES = ("roc_auc", "average_precision")


def localisation(
    scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_], within: NDArray[np.bool_]
) -> pd.DataFrame:
    """How well the scores of each item tell its true voxels from the others.

    Parameters
    ----------
    scores : float array (items, *space)
        The higher, the more surely a true voxel. Pass absolute values, or the negative part,
        where that is the question.
    truth : bool array (items, *space)
        The voxels that should be found.
    within : bool array (*space)
        The voxels that count, for example the brain.

    Returns
    -------
    DataFrame, one row per item; the index, `item`, counts from 0
        roc_auc : area under the receiver operating characteristic (chance: 0.5), ties count half.
        average_precision : mean precision over the recall gained (chance: `prevalence`).
        prevalence : share of true voxels within.
        Both measures are NaN for items where no voxel is true, or all are.

    Raises
    ------
    InputError
        If the shapes do not fit, `within` is empty, or a score within is NaN or infinite.
    """
    _check(scores, truth, within)
    rows = [
        _item(item_scores[within], item_truth[within])
        for item_scores, item_truth in zip(scores, truth, strict=True)
    ]
    index = pd.RangeIndex(len(rows), name="item")
    return pd.DataFrame(rows, columns=[*MEASURES, "prevalence"], index=index, dtype=np.float64)


def score_map(
    name: str,
    items: Sequence[str],
    maps: NDArray[np.floating[Any]],
    truth: Mapping[str, NDArray[np.bool_]],
    within: NDArray[np.bool_],
) -> pd.DataFrame:
    """Localisation of one kind of map, as the rows of the table that maps are compared in.

    Parameters
    ----------
    name : str
    items : sequence of str
        Names of the maps' items.
    maps : float array (items, *space)
        Relevance; its magnitude is scored, since the sign alone does not say for which class a
        voxel speaks.
    truth : mapping of str to bool array (*space)
        The voxels that should be found, by item.
    within : bool array (*space)

    Returns
    -------
    DataFrame
        Columns `map`, `item`, and those of `localisation`.
    """
    scores = localisation(np.abs(maps), np.stack([truth[item] for item in items]), within)
    scores.insert(0, "item", list(items))
    scores.insert(0, "map", name)
    return scores


def compare_localisation(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Summarise the localisation of several maps and compare each with a reference map.

    Parameters
    ----------
    table : DataFrame
        Columns map, item, roc_auc, average_precision, prevalence: one row per map and item, as
        ``pd.concat({name: localisation(...)}, names=["map"]).reset_index()`` makes it.
    reference : str
        Name of the map that the others are compared with.

    Returns
    -------
    DataFrame, one row per map and measure
        map, measure : in the table's order of maps; roc_auc, then average_precision.
        n : number of items where the measure is defined (not NaN).
        mean, standard_deviation : over those items (n - 1 in the denominator).
        chance : what random scores would have: 0.5, or the mean prevalence of those items.
        pairs : number of items where both this map's measure and the reference's are defined.
        share_better : share of the pairs where this map is strictly better than the reference.
        p_value : two-sided Wilcoxon signed-rank test of the pairs, not corrected for the number
            of maps; 1 if all pairs are equal. share_better and p_value are NaN for the reference
            itself, and where there are no pairs.

    Raises
    ------
    InputError
        If the reference is not in the table, or a map has an item twice.
    """
    return pd.DataFrame(
        [
            {"map": one.map, "measure": one.measure, **_summary(one)}
            for one in comparisons(table, reference, MEASURES)
        ]
    )


def _check(
    scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_], within: NDArray[np.bool_]
) -> None:
    if scores.shape != truth.shape or scores.shape[1:] != within.shape:
        raise InputError(
            f"scores {scores.shape} and truth {truth.shape} must have the same shape, (items, "
            f"*space), and within {within.shape} the shape of space"
        )
    if truth.dtype != np.bool_ or within.dtype != np.bool_:
        raise InputError(f"truth ({truth.dtype}) and within ({within.dtype}) must be boolean")
    if not within.any():
        raise InputError("there is no voxel within: give a mask that holds at least one")
    missing = ~np.isfinite(scores[:, within])
    if missing.any():
        item = int(np.argmax(missing.any(axis=1)))
        raise InputError(
            f"item {item}: {missing[item].sum()} of {within.sum()} scores within are NaN or "
            "infinite. The map is not complete: finish the explanation, or exclude voxels that "
            "no window covers from the mask"
        )


def _item(scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    prevalence = float(truth.mean())
    if not truth.any() or truth.all():
        return np.nan, np.nan, prevalence
    return (
        float(roc_auc_score(truth, scores)),
        float(average_precision_score(truth, scores)),
        prevalence,
    )


def _summary(one: Comparison) -> dict[str, float]:
    compared = not one.is_reference and len(one.differences) > 0
    return {
        "n": len(one.values),
        "mean": one.values.mean(),
        "standard_deviation": one.values.std(),
        "chance": 0.5 if one.measure == "roc_auc" else one.rows["prevalence"].mean(),
        "pairs": len(one.differences),
        "share_better": (one.differences > 0).mean() if compared else np.nan,
        "p_value": signed_rank_p(one.differences) if compared else np.nan,
    }
