"""Table of how much of windows of several sides their surroundings foretell."""

from collections.abc import Sequence

import pandas as pd

from preddiff.samplers.foretold import Foretold

# Significant digits of the table.
DIGITS = 6


def table_of_scales(found: Sequence[Foretold]) -> pd.DataFrame:
    """List how much is foretold, one row each.

    Parameters
    ----------
    found : sequence of Foretold

    Returns
    -------
    DataFrame
        Columns `k`, `l`, `share_foretold`, `share_remaining`, `sd` (the standard deviation of a
        voxel, in units of the items), `sd_remaining` (given the surroundings), `least_remaining`
        and `most_remaining` (of the shares that remain in the cells of a Gaussian by location).
    """
    return pd.DataFrame(
        {
            "k": [one.k for one in found],
            "l": [one.l for one in found],
            "share_foretold": [one.share for one in found],
            "share_remaining": [one.share_remaining for one in found],
            "sd": [one.variance**0.5 for one in found],
            "sd_remaining": [one.remaining**0.5 for one in found],
            "least_remaining": [one.cells.min() for one in found],
            "most_remaining": [one.cells.max() for one in found],
        }
    )
