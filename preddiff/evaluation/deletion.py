"""Deletion and insertion curves: a class's probability while windows are replaced one by one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.evaluation.paired import Comparison, compare_maps, mean_interval
from preddiff.samplers.draws import window_voxels
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
        Probability along the deletion curve and along the insertion curve.
    """

    map: str
    item: str
    class_number: int
    values: FloatArray


def first_class_target(class_numbers: NDArray[np.integer]) -> int | None:
    """Return the first target that is a class for every item, or None if there is none.

    Parameters
    ----------
    class_numbers : int array (items, targets)
        Class number of each target of each item; -1 for feature maps.
    """
    of_class = np.flatnonzero((class_numbers >= 0).all(axis=0))
    return int(of_class[0]) if len(of_class) else None


def order_of_windows(relevance: NDArray[np.floating], k: int) -> IntArray:
    """Sort the windows that tile an input by relevance, the most relevant first.

    Parameters
    ----------
    relevance : array (*space)
    k : int
        Side of the windows; the last one along an axis may overlap its neighbour.

    Returns
    -------
    int64 array (windows,)
        Window numbers (C order of the grid), by descending mean relevance; ties keep C order.
    """
    windows = Windows(relevance.shape, k, k)
    means = windows.sum_in_windows(relevance).reshape(-1)
    return np.argsort(-means, kind="stable")


def probability_curve(
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

    From the image to the filled image this is the deletion curve, and in the other direction the
    insertion curve, of Petsiuk, Das, Saenko (2018), "RISE: Randomized input sampling for
    explanation of black-box models"; replacing windows rather than pixels is the region
    perturbation of Samek et al. (2017).

    Parameters
    ----------
    classify : callable
        Maps inputs (n, channels, *space) to the probability of the class (n,).
    start, end : tensor (channels, *space)
    order : int64 array (windows,)
        Windows that tile the input, in the order in which they are replaced.
    k : int
        Side of the windows.
    steps : int
        Points of the curve after the first, evenly spaced over the windows; at most one per
        window.
    batch_size : int
        Inputs per call of `classify`, which limits the memory used.

    Returns
    -------
    float64 array (steps + 1,)
        From the probability for `start` to that for `end`.
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


def deletion_and_insertion(
    classify: Callable[[Tensor], Tensor],
    image: Tensor,
    filled: Tensor,
    order: IntArray,
    k: int,
    *,
    steps: int,
    batch_size: int,
) -> FloatArray:
    """Compute the deletion curve (image to filled image) and the insertion curve (the reverse).

    Parameters
    ----------
    classify, order, k, steps, batch_size
        As in `probability_curve`.
    image, filled : tensor (channels, *space)

    Returns
    -------
    float64 array (2, points)
    """
    ends = ((image, filled), (filled, image))
    return np.stack(
        [
            probability_curve(classify, *pair, order, k, steps=steps, batch_size=batch_size)
            for pair in ends
        ]
    )


def mean_of_random_orders(
    follow: Callable[[IntArray], FloatArray],
    windows: int,
    orders: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Average the curves over random orders of the windows.

    Parameters
    ----------
    follow : callable
        Maps an order of windows to its curves.
    windows, orders : int
        Number of windows, and number of random orders.
    generator : Generator
    """
    return np.mean([follow(generator.permutation(windows)) for _ in range(orders)], axis=0)


def area_under(curve: FloatArray) -> float:
    """Area under a curve over the share of replaced windows (from 0 to 1), by trapezoids."""
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def area_table(curves: Iterable[Curves]) -> pd.DataFrame:
    """Tabulate the areas under the curves.

    Returns
    -------
    DataFrame
        Columns `map`, `item`, `class`, `deletion` and `insertion`; one row for each curve, sorted
        by map in order of first appearance.
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
    """Average the curves of each map over items.

    Returns
    -------
    DataFrame
        Columns `map`, `share` (of the windows, replaced so far), `deletion` and `insertion`; one
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
        Columns `map`, `item`, `deletion`, `insertion` and, where maps of an item may explain
        different classes, `class`: only curves of the same class are compared.
    reference : str
        Map that the others are compared with.

    Returns
    -------
    DataFrame
        One row for each map and measure: `items`, `mean`, `stderr`; `difference` to the reference
        and its 95% confidence interval, `difference_low` to `difference_high` (paired t-test);
        `better`, the share of items where the map beats the reference (a smaller area for
        deletion, a larger one for insertion). NaN where there is nothing to compare.

    Raises
    ------
    InputError
        If the reference is not in the table, or a map has an item (and class) twice.
    """
    return compare_maps(table, reference, MEASURES, _summary)


def _summary(comparison: Comparison) -> dict[str, float]:
    scores = {
        "items": len(comparison.values),
        "mean": comparison.values.mean(),
        "stderr": comparison.values.std() / np.sqrt(len(comparison.values)),
        "difference": np.nan,
        "difference_low": np.nan,
        "difference_high": np.nan,
        "better": np.nan,
    }
    if comparison.is_reference or len(comparison.differences) < 2:
        return scores
    low, high = mean_interval(comparison.differences)
    gain = -comparison.differences if comparison.measure == "deletion" else comparison.differences
    return scores | {
        "difference": comparison.differences.mean(),
        "difference_low": low,
        "difference_high": high,
        "better": (gain > 0).mean(),
    }
