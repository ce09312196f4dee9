"""How well maps of relevance localise voxels that are known: planted or annotated lesions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import auc, roc_curve

from preddiff.errors import InputError
from preddiff.evaluation.paired import Comparison, compare_maps, signed_rank_p

MEASURES = ("roc_auc", "average_precision")


def localisation(
    scores: NDArray[np.floating[Any]],
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    items: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Measure how well the scores of each item separate its true voxels from the others.

    Parameters
    ----------
    scores : float array (items, *space)
        Higher where a voxel is more likely to be true. Pass absolute values, or the negative part,
        if that is the question.
    truth : bool array (items, *space)
        The voxels that should be found.
    mask : bool array (*space)
        The voxels that are taken into account, for example those of the brain.
    items : sequence of str, optional
        Names of the items; by default they are numbered from 0.

    Returns
    -------
    DataFrame, one row per item; the index is `item`
        roc_auc : area under the receiver operating characteristic (chance: 0.5); ties count half.
        average_precision : mean precision, weighted by gain of recall (chance: `prevalence`).
        prevalence : share of true voxels in the mask.
        Both measures are NaN for items where no voxel of the mask is true, or all are.

    Raises
    ------
    InputError
        If the shapes do not match, the mask is empty, or a score in the mask is NaN or infinite.
    """
    names: list[Any] = list(range(len(scores)) if items is None else items)
    _check(scores, truth, mask, names)
    rows = [
        _item(item_scores[mask], item_truth[mask])
        for item_scores, item_truth in zip(scores, truth, strict=True)
    ]
    index = pd.Index(names, name="item")
    return pd.DataFrame(rows, columns=[*MEASURES, "prevalence"], index=index, dtype=np.float64)


def score_map(
    name: str,
    items: Sequence[str],
    relevance: NDArray[np.floating[Any]],
    truth: Mapping[str, NDArray[np.bool_]],
    mask: NDArray[np.bool_],
) -> pd.DataFrame:
    """Measure the localisation of one map, as rows of the table that maps are compared in.

    Parameters
    ----------
    name : str
        Name of the map.
    items : sequence of str
        Names of the items.
    relevance : float array (items, *space)
        Its magnitude is scored: the sign alone does not say for which class a voxel speaks.
    truth : mapping of str to bool array (*space)
        The voxels that should be found, by item.
    mask : bool array (*space)
        The voxels that are taken into account.

    Returns
    -------
    DataFrame
        Columns `map`, `item`, and those of `localisation`.
    """
    targets = np.stack([truth[item] for item in items])
    table = localisation(np.abs(relevance), targets, mask, items).reset_index()
    table.insert(0, "map", name)
    return table


def compare_localisation(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Summarise the localisation of several maps, and compare each with a reference map.

    Parameters
    ----------
    table : DataFrame
        Columns map, item, roc_auc, average_precision, prevalence: one row per map and item, as
        `score_map` makes them.
    reference : str
        Map that the others are compared with.

    Returns
    -------
    DataFrame, one row per map and measure
        map, measure : in the table's order of maps; roc_auc, then average_precision.
        n : number of items where the measure is defined (not NaN).
        mean, standard_deviation : over those items (n - 1 in the denominator).
        chance : expected value for random scores: 0.5, or the mean prevalence of those items.
        pairs : number of items where both this map's measure and the reference's are defined.
        share_better : share of the pairs where this map is strictly better than the reference.
        p_value : two-sided Wilcoxon signed-rank test of the pairs, not corrected for multiple
            maps; 1 if all pairs are equal. share_better and p_value are NaN for the reference
            itself, and where there are no pairs.

    Raises
    ------
    InputError
        If the reference is not in the table, or a map has an item twice.
    """
    return compare_maps(table, reference, MEASURES, _summary)


def _check(
    scores: NDArray[np.floating[Any]],
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    items: Sequence[Any],
) -> None:
    if scores.shape != truth.shape or scores.shape[1:] != mask.shape:
        raise InputError(
            f"scores {scores.shape} and truth {truth.shape} must have the same shape, (items, "
            f"*space), and the mask {mask.shape} the shape of space"
        )
    if truth.dtype != np.bool_ or mask.dtype != np.bool_:
        raise InputError(f"truth ({truth.dtype}) and mask ({mask.dtype}) must be boolean")
    if not mask.any():
        raise InputError("the mask is empty: it must contain at least one voxel")
    missing = ~np.isfinite(scores[:, mask])
    if missing.any():
        number = int(np.argmax(missing.any(axis=1)))
        raise InputError(
            f"item {items[number]}: {missing[number].sum()} of {mask.sum()} scores in the mask are "
            "NaN or infinite. The map is incomplete: finish the explanation, or exclude voxels "
            "that no window covers from the mask"
        )


def _item(scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    prevalence = float(truth.mean())
    if not truth.any() or truth.all():
        return np.nan, np.nan, prevalence
    # Both measures from one curve: sorting the voxels takes most of the time.
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    found = true[1:] * truth.sum()
    precision = found / (found + false[1:] * (~truth).sum())
    return float(auc(false, true)), float(np.diff(true) @ precision), prevalence


def _summary(comparison: Comparison) -> dict[str, float]:
    compared = not comparison.is_reference and len(comparison.differences) > 0
    return {
        "n": len(comparison.values),
        "mean": comparison.values.mean(),
        "standard_deviation": comparison.values.std(),
        "chance": 0.5 if comparison.measure == "roc_auc" else comparison.rows["prevalence"].mean(),
        "pairs": len(comparison.differences),
        "share_better": (comparison.differences > 0).mean() if compared else np.nan,
        "p_value": signed_rank_p(comparison.differences) if compared else np.nan,
    }
