"""How well maps find the annotated objects of images, compared with the centre of the image."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from preddiff.evaluation import boxes as in_boxes
from preddiff.evaluation import saliency as in_masks
from preddiff.evaluation.paired import Comparison, compare_maps, mean_interval, signed_rank_p
from preddiff.windows import FloatArray

# Baselines: maps that do not depend on the image.
CENTRE_BOX, CENTRE_GAUSSIAN = "centre-box", "centre-gaussian"
# Measures, and the baseline that each is compared with. A box's maximum is not at its centre, and
# the tightest box of a Gaussian is small: each baseline is good at what it is compared in.
_BASELINES = {
    **dict.fromkeys(("iou", "localised"), CENTRE_BOX),
    **dict.fromkeys(("pointing", *in_masks.MEASURES), CENTRE_GAUSSIAN),
}
# Measures of which smaller values are better, and those that are 0 or 1.
_SMALLER = ("mae",)
_BINARY = ("localised",)
# Share of the image's area that the box in its centre has.
_AREA = 0.5
# Standard deviation of the Gaussian in the centre, as a share of the image's sides.
_WIDTH = 0.25


def centre_maps(space: tuple[int, ...]) -> dict[str, FloatArray]:
    """Return the baselines, which suppose that objects are in the centre of an input.

    Parameters
    ----------
    space : tuple of int
        Spatial shape of the input, such as (height, width).

    Returns
    -------
    dict of str to float64 array (*space)
        centre-box : 1 in a box in the centre with the image's proportions and half of its area or
            volume, else 0. That box is the map's tightest box.
        centre-gaussian : a Gaussian at the centre, whose standard deviation is a quarter of the
            image's sides.
    """
    # Positions of the pixels' centres, from -1/2 to 1/2.
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in space), indexing="ij")
    farthest = np.max(np.abs(axes), axis=0)
    return {
        CENTRE_BOX: (farthest <= _AREA ** (1 / len(space)) / 2).astype(np.float64),
        CENTRE_GAUSSIAN: np.exp(-np.sum(np.square(axes), axis=0) / (2 * _WIDTH**2)),
    }


def score_objects(
    relevance: NDArray[np.floating[Any]],
    boxes: NDArray[np.floating[Any]] | None,
    truth: NDArray[np.bool_] | None,
) -> dict[str, float]:
    """Measure how well a map finds the objects of an image.

    Parameters
    ----------
    relevance : array (height, width)
        Its positive part is scored: the evidence for the target, without that against it.
    boxes : array (boxes, 4), optional
        The image's true boxes.
    truth : bool array (height, width), optional
        The mask of its objects.

    Returns
    -------
    dict
        The measures of `preddiff.evaluation.boxes` if there are boxes, and of
        `preddiff.evaluation.saliency` if there is a mask of at least one pixel.
    """
    scores = np.maximum(relevance, 0)
    found: dict[str, float] = {}
    if boxes is not None and len(boxes):
        found |= in_boxes.score_boxes(scores, boxes)
    if truth is not None and truth.any():
        found |= in_masks.score_saliency(scores, truth)
    return found


def compare_objects(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise how well several maps find objects, and compare each with a baseline.

    Parameters
    ----------
    table : DataFrame
        Columns `map`, `item` and one for each measure, as `score_objects` returns them; NaN where
        an item has no box, or no mask. One row for each map and item; the maps of `centre_maps` are
        among them.

    Returns
    -------
    DataFrame, one row for each map and measure
        map, measure
        reference : the baseline, centre-box for iou and localised, else centre-gaussian.
        items : number of items where the measure is defined.
        mean : over those items; of `localised`, the share of images that are localised.
        low, high : its 95% confidence interval over items (Student's t, cut to the range from 0 to
            1 of all measures; Wilson's for `localised`).
        pairs : number of items where both this map's measure and the baseline's are defined.
        difference : mean difference to the baseline.
        difference_low, difference_high : its 95% confidence interval (paired t-test).
        better : share of the pairs where the map is strictly better: larger, but for `mae`.
        p_value : two-sided Wilcoxon signed-rank test of the pairs, not corrected for the number of
            maps. As difference and better, NaN for the baseline itself, and without pairs.
    """
    parts = []
    for reference in (CENTRE_BOX, CENTRE_GAUSSIAN):
        measures = [one for one, other in _BASELINES.items() if other == reference and one in table]
        if measures and len(table):
            found = compare_maps(table, reference, measures, _summary)
            found.insert(2, "reference", reference)
            parts.append(found)
    if not parts:
        return pd.DataFrame(columns=["map", "measure", "reference"])
    rows = pd.concat(parts, ignore_index=True)
    # The table's order of maps, and the order of measures.
    maps, order = list(dict.fromkeys(table["map"])), list(_BASELINES)
    places = [
        (maps.index(name), order.index(measure))
        for name, measure in zip(rows["map"], rows["measure"], strict=True)
    ]
    return rows.iloc[sorted(range(len(rows)), key=places.__getitem__)].reset_index(drop=True)


def _summary(comparison: Comparison) -> dict[str, float]:
    values: FloatArray = np.asarray(comparison.values, dtype=np.float64)
    differences = comparison.differences
    compared = not comparison.is_reference and len(differences) > 0
    low, high = _interval(values, comparison.measure)
    difference_low, difference_high = mean_interval(differences) if compared else (np.nan, np.nan)
    gain = -differences if comparison.measure in _SMALLER else differences
    return {
        "items": len(values),
        "mean": values.mean() if len(values) else np.nan,
        "low": low,
        "high": high,
        "pairs": len(differences),
        "difference": differences.mean() if compared else np.nan,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "better": (gain > 0).mean() if compared else np.nan,
        "p_value": signed_rank_p(differences) if compared else np.nan,
    }


def _interval(values: FloatArray, measure: str) -> tuple[float, float]:
    if measure not in _BINARY or not len(values):
        low, high = mean_interval(values)
        # All measures are shares, which Student's interval can exceed.
        return max(low, 0.0), min(high, 1.0)
    # Where all images are localised, or none is, Student's interval would be a point.
    found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
