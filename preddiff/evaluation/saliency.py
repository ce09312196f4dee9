"""How well maps agree with masks of objects: precision, recall, F-measure and absolute error."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.windows import FloatArray

MEASURES = ("precision", "recall", "f_measure", "mae")
# Weight of recall against precision in the F-measure, squared.
_BETA_SQUARED = 0.3
# Pixels are chosen where the map is at least this number of times its mean.
_THRESHOLD = 2.0


def scaled(scores: NDArray[np.floating[Any]]) -> FloatArray:
    """Scale a map to the range from 0 (its smallest value) to 1 (its largest).

    A constant map is 0 everywhere.
    """
    values = scores.astype(np.float64)
    low, high = values.min(), values.max()
    return np.zeros_like(values) if low == high else (values - low) / (high - low)


def salient(values: FloatArray) -> NDArray[np.bool_]:
    """Choose the pixels of a scaled map that are at least twice its mean.

    The adaptive threshold of Achanta et al. (2009), "Frequency-tuned salient region detection". It
    is at most 1, so at least the largest value is chosen; of a constant map, no pixel is.
    """
    threshold = min(1.0, _THRESHOLD * float(values.mean()))
    return (values >= threshold) & (values > 0)


def score_saliency(scores: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Measure how well a map agrees with the mask of an image's objects.

    Parameters
    ----------
    scores : array (height, width)
        Not negative, such as the positive part of evidence; it is scaled to the range from 0 to 1.
    truth : bool array (height, width)
        Where an object is; at least at one pixel.

    Returns
    -------
    dict
        precision, recall : of the pixels that `salient` chooses; 0 if there are none.
        f_measure : (1 + b) precision recall / (b precision + recall) with b = 0.3, which weights
            precision more; 0 if both are 0.
        mae : mean absolute difference between scaled map and mask. A constant map has the share of
            pixels in the mask.
    """
    values = scaled(scores)
    chosen = salient(values)
    found = float((chosen & truth).sum())
    precision = found / max(1.0, float(chosen.sum()))
    recall = found / float(truth.sum())
    weighted = _BETA_SQUARED * precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f_measure": (1 + _BETA_SQUARED) * precision * recall / weighted if weighted else 0.0,
        "mae": float(np.abs(values - truth).mean()),
    }
