"""Deletion and insertion curves: how fast a class's probability goes, window by window."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.evaluation.paired import Comparison, comparisons, mean_interval
from preddiff.samplers.base import window_voxels
from preddiff.windows import FloatArray, IntArray, Windows

MEASURES = ("deletion", "insertion")
# Name of the map whose windows are replaced in random order.
RANDOM = "random"


@dataclass(frozen=True)
class Curves:
    """The curves of a map for one item and class.

    Attributes
    ----------
    map, item : str
    class_number : int
        The class whose probability is followed.
    values : float64 array (2, points)
        Probability along the curve of deletion and that of insertion.
    """

    map: str
    item: str
    class_number: int
    values: FloatArray


def target_of_class(class_numbers: NDArray[np.integer]) -> int | None:
    """First target that is of a class for every item, or None.

    Parameters
    ----------
    class_numbers : int array (items, targets)
        Number of the class of each item's target; -1 for feature maps.
    """
    of_class = np.flatnonzero((class_numbers >= 0).all(axis=0))
    return int(of_class[0]) if len(of_class) else None


def order_of_windows(relevance: NDArray[np.floating], k: int) -> IntArray:
    """Windows that tile an input, the most relevant first.

    Parameters
    ----------
    relevance : array (*space)
    k : int
        Side of the windows; the last along an axis may overlap its neighbour.

    Returns
    -------
    int64 array (windows,)
        Numbers in C order of the grid, by mean relevance; equal ones in the order of numbers.
    """
    windows = Windows(relevance.shape, k, k)
    means = windows.sum_in_windows(relevance).reshape(-1)
    return np.argsort(-means, kind="stable")


def curve(
    classify: Callable[[Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    order: IntArray,
    k: int,
    *,
    steps: int,
    batch_size: int,
) -> FloatArray:
    """Follow a class's probability while windows of one input are replaced by those of another.

    From the image to the filled image it is the deletion curve, the other way the insertion curve
    of Petsiuk, Das, Saenko (2018), "RISE: Randomized input sampling for explanation of black-box
    models"; windows in place of pixels are the region perturbation of Samek et al. (2017).

    Parameters
    ----------
    classify : callable
        Takes inputs (n, channels, *space) to the class's probability (n,).
    start, end : tensor (channels, *space)
    order : int64 array (windows,)
        Windows that tile the input, the first to be replaced first.
    k : int
        Side of the windows.
    steps : int
        Points of the curve after the first, evenly over the windows; at most one per window.
    batch_size : int
        Inputs per call of `classify`, which bounds memory.

    Returns
    -------
    float64 array (steps + 1,)
        The first is that of `start`, the last that of `end`.
    """
    windows = Windows(tuple(start.shape[1:]), k, k)
    voxels = torch.from_numpy(window_voxels(windows, windows.everything, len(start))[order])
    counts = np.round(np.linspace(0, len(order), min(steps, len(order)) + 1)).astype(int)
    values, source = start.reshape(-1).clone(), end.reshape(-1)
    found: list[Tensor] = []
    batch: list[Tensor] = []
    replaced = 0
    for number, count in enumerate(counts):
        chosen = voxels[replaced:count].reshape(-1)
        values[chosen] = source[chosen]
        replaced = count
        batch.append(values.clone())
        if len(batch) == batch_size or number == len(counts) - 1:
            found.append(classify(torch.stack(batch).reshape(-1, *start.shape)))
            batch.clear()
    return torch.cat(found).double().numpy()


def both_curves(
    classify: Callable[[Tensor], Tensor],
    image: Tensor,
    filled: Tensor,
    order: IntArray,
    k: int,
    *,
    steps: int,
    batch_size: int,
) -> FloatArray:
    """Curves of deletion, from the image to the filled image, and of insertion, the way back.

    Parameters
    ----------
    classify, order, k, steps, batch_size
        As in `curve`.
    image, filled : tensor (channels, *space)

    Returns
    -------
    float64 array (2, points)
    """
    ends = ((image, filled), (filled, image))
    return np.stack(
        [curve(classify, *pair, order, k, steps=steps, batch_size=batch_size) for pair in ends]
    )


def mean_of_random_orders(
    follow: Callable[[IntArray], FloatArray],
    windows: int,
    orders: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Mean of the curves of random orders.

    Parameters
    ----------
    follow : callable
        Takes an order of windows to its curves.
    windows, orders : int
        Number of windows, and of orders to draw.
    generator : Generator
    """
    return np.mean([follow(generator.permutation(windows)) for _ in range(orders)], axis=0)


def area_under(curve: FloatArray) -> float:
    """Area under a curve over the share of windows that are replaced, by the trapezoidal rule."""
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def areas(curves: Iterable[Curves]) -> pd.DataFrame:
    """Areas under curves.

    Returns
    -------
    DataFrame
        Columns `map`, `item`, `class`, `deletion` and `insertion`; a row for each map and item,
        map by map.
    """
    return pd.DataFrame(
        [
            {
                "map": name,
                "item": one.item,
                "class": one.class_number,
                **dict(zip(MEASURES, map(area_under, one.values), strict=True)),
            }
            for name, found in _by_map(curves).items()
            for one in found
        ]
    )


def mean_curves(curves: Iterable[Curves]) -> pd.DataFrame:
    """Mean curves over items.

    Returns
    -------
    DataFrame
        Columns `map`, `share` (of the windows that are replaced), `deletion` and `insertion`; a
        row for each map and point.
    """
    parts = []
    for name, found in _by_map(curves).items():
        mean = np.mean([one.values for one in found], axis=0)
        columns = dict(zip(MEASURES, mean, strict=True))
        share = np.linspace(0, 1, mean.shape[1])
        parts.append(pd.DataFrame({"map": name, "share": share, **columns}))
    return pd.concat(parts, ignore_index=True)


def _by_map(curves: Iterable[Curves]) -> dict[str, list[Curves]]:
    found: dict[str, list[Curves]] = {}
    for one in curves:
        found.setdefault(one.map, []).append(one)
    return found


def compare_curves(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compare maps by the areas under their curves, paired by item.

    Parameters
    ----------
    table : DataFrame
        Columns `map`, `item`, `deletion` and `insertion`, and `class` where maps of an item may
        explain different ones: only what follows the same class is compared.
    reference : str
        Map that the others are compared with.

    Returns
    -------
    DataFrame
        A row for each map and measure: `items`, `mean`, `stderr`; `difference` to the reference,
        its 95% interval by a paired t test, `difference_low` and `difference_high`; and `better`,
        the share of items where the map beats the reference (a smaller area of deletion, a larger
        one of insertion). NaN where there is nothing to compare.
    """
    return pd.DataFrame(
        [
            {"map": one.map, "measure": one.measure, **_summary(one)}
            for one in comparisons(table, reference, MEASURES)
        ]
    )


def _summary(one: Comparison) -> dict[str, float]:
    scores = {
        "items": len(one.values),
        "mean": one.values.mean(),
        "stderr": one.values.std() / np.sqrt(len(one.values)),
        "difference": np.nan,
        "difference_low": np.nan,
        "difference_high": np.nan,
        "better": np.nan,
    }
    if one.is_reference or len(one.differences) < 2:
        return scores
    low, high = mean_interval(one.differences)
    gain = -one.differences if one.measure == "deletion" else one.differences
    return scores | {
        "difference": one.differences.mean(),
        "difference_low": low,
        "difference_high": high,
        "better": (gain > 0).mean(),
    }
