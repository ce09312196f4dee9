"""Paired comparison of maps, item by item, with a reference map."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from preddiff.errors import InputError
from preddiff.windows import FloatArray

_CONFIDENCE = 0.95
# Columns that identify a row of a map, which may explain several classes of an item.
_KEYS = ("item", "class")


@dataclass(frozen=True)
class Comparison:
    """A measure of a map, and how it differs from that of the reference map.

    Attributes
    ----------
    map, measure : str
    rows : DataFrame
        The map's rows of the table where the measure is defined (not NaN).
    differences : float64 array (pairs,)
        The map's measure minus the reference's, for each item (and class) where both are defined.
    is_reference : bool
        Whether the map is the reference itself, so that all differences are 0.
    """

    map: str
    measure: str
    rows: pd.DataFrame
    differences: FloatArray
    is_reference: bool

    @property
    def values(self) -> "pd.Series[float]":
        """The measure where it is defined."""
        return self.rows[self.measure]


def compare_maps(
    table: pd.DataFrame,
    reference: str,
    measures: Sequence[str],
    summarise: Callable[[Comparison], Mapping[str, float]],
) -> pd.DataFrame:
    """Compare each map with a reference map, by each of several measures.

    Parameters
    ----------
    table : DataFrame
        Columns `map`, `item`, one for each measure and, where maps of an item may explain
        different classes, `class`: only rows of the same class are paired.
    reference : str
        Map that the others are compared with.
    measures : sequence of str
    summarise : callable
        Maps a comparison to the cells of its row.

    Returns
    -------
    DataFrame
        One row for each map, in the table's order, and each measure: `map`, `measure` and the
        cells of the summary.

    Raises
    ------
    InputError
        If the reference is not in the table, or a map has an item (and class) twice.
    """
    return pd.DataFrame(
        [
            {"map": one.map, "measure": one.measure, **summarise(one)}
            for one in comparisons(table, reference, measures)
        ]
    )


def comparisons(
    table: pd.DataFrame, reference: str, measures: Sequence[str]
) -> Iterator[Comparison]:
    """Pair the measures of each map with those of a reference map; see `compare_maps`.

    Yields
    ------
    Comparison
        For each map, in the table's order, and each measure.
    """
    keys = [key for key in _KEYS if key in table]
    twice = table[table.duplicated(["map", *keys])]
    if not twice.empty:
        raise InputError(f"map '{twice['map'].iloc[0]}' has item {twice['item'].iloc[0]} twice")
    maps = {str(name): rows for name, rows in table.groupby("map", sort=False)}
    if reference not in maps:
        raise InputError(f"no map '{reference}' to compare with; choose one of {', '.join(maps)}")
    others = maps[reference].set_index(keys)
    for name, rows in maps.items():
        differences = rows.set_index(keys)[list(measures)] - others[list(measures)]
        for measure in measures:
            yield Comparison(
                name,
                measure,
                rows[rows[measure].notna()],
                differences[measure].dropna().to_numpy(dtype=np.float64),
                name == reference,
            )


def mean_interval(differences: FloatArray) -> tuple[float, float]:
    """95% confidence interval of the mean of differences (Student's t); NaN for less than two."""
    if len(differences) < 2:
        return np.nan, np.nan
    if differences.min() == differences.max():
        # SciPy warns of cancellation.
        return float(differences[0]), float(differences[0])
    interval = stats.ttest_1samp(differences, 0).confidence_interval(_CONFIDENCE)
    return float(interval.low), float(interval.high)


def signed_rank_p(differences: FloatArray) -> float:
    """Two-sided p-value of the Wilcoxon signed-rank test of paired differences.

    NaN if there are no differences, 1 if all of them are 0.
    """
    if not len(differences):
        return np.nan
    # The test drops zeros; with nothing left, some versions of SciPy warn and others give NaN.
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
