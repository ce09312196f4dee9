"""How well maps localise objects in boxes: overlap of the tightest box, and the pointing game."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.windows import FloatArray

MEASURES = ("iou", "localised", "pointing")
# A map localises an object if its box and the object's overlap by more than this.
_OVERLAP = 0.5
# Pixels of the tightest box are larger than this number of times the map's mean.
ALPHA = 1.5


def tightest_box(scores: NDArray[np.floating[Any]], alpha: float = ALPHA) -> FloatArray | None:
    """Find the tightest box around all pixels whose score is larger than `alpha` times the mean.

    As in Du, Liu, Song, Hu (2018), "Towards explanation of DNN-based prediction with guided feature
    inversion", whose table of localisation errors uses alpha = 1.5.

    Parameters
    ----------
    scores : array (height, width)
        Not negative; higher where an object is more likely. A common factor does not matter.
    alpha : float

    Returns
    -------
    float64 array (4,) or None
        xmin, ymin, xmax, ymax: from pixel 0, and without those at xmax and ymax. None if no pixel
        is larger: for maps that are 0 everywhere, and, if alpha is 1 or larger, for constant ones.
    """
    # The mean of equal values can differ from them by rounding.
    if scores.min() == scores.max() and (alpha >= 1 or not scores.any()):
        return None
    chosen = scores > alpha * scores.mean(dtype=np.float64)
    rows, columns = np.flatnonzero(chosen.any(axis=1)), np.flatnonzero(chosen.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def overlaps(box: FloatArray, boxes: NDArray[np.floating[Any]]) -> FloatArray:
    """Intersection over union of a box (4,) with each of several boxes (boxes, 4).

    Returns
    -------
    float64 array (boxes,)
        From 0 (disjoint) to 1 (equal).
    """
    others = boxes.astype(np.float64)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(common / (areas - common))


def pointing(scores: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]) -> float:
    """Score the pointing game: whether the map is largest inside a box, at the pixel's centre.

    The game of Zhang et al. (2016), "Top-down neural attention by excitation backprop", without a
    tolerance around the boxes. If several pixels are the largest, the score is the share of them
    that are inside: the probability of a hit if one is chosen at random. So a constant map, and a
    map of evidence without any positive value, scores the share of the image that is in boxes.

    Parameters
    ----------
    scores : array (height, width)
    boxes : array (boxes, 4)

    Returns
    -------
    float
        From 0 to 1; 0 or 1 if one pixel is the largest.
    """
    rows, columns = np.nonzero(scores == scores.max())
    y, x = rows[:, None] + 0.5, columns[:, None] + 0.5
    low, high = boxes[:, :2], boxes[:, 2:]
    inside = (x >= low[:, 0]) & (x < high[:, 0]) & (y >= low[:, 1]) & (y < high[:, 1])
    return float(inside.any(axis=1).mean())


def score_boxes(
    scores: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Measure how well a map localises the objects of an image.

    Parameters
    ----------
    scores : array (height, width)
        Not negative, such as the positive part of evidence.
    boxes : array (boxes, 4)
        At least one true box; which of several objects is found does not matter.

    Returns
    -------
    dict
        iou : largest intersection over union of the map's tightest box with a true box; 0 if the
            map has no such box.
        localised : 1 if that is larger than 0.5, else 0; the localisation error is 1 minus its
            mean.
        pointing : see `pointing`.
    """
    box = tightest_box(scores)
    overlap = 0.0 if box is None else float(overlaps(box, boxes).max())
    return {
        "iou": overlap,
        "localised": float(overlap > _OVERLAP),
        "pointing": pointing(scores, boxes),
    }
