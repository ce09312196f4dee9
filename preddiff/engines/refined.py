"""Expectations level by level: a refinement, computed by an engine."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from preddiff.engines.base import Progress, no_progress
from preddiff.engines.dense import Dense
from preddiff.refinement import Drawn, Estimate, Refinement, level_of


def levels(
    engine: Dense,
    refinement: Refinement,
    x: NDArray[np.float32],
    item: str,
    progress: Progress = no_progress,
) -> Iterator[tuple[Drawn, Estimate]]:
    """Draw the windows of an item level by level.

    Parameters
    ----------
    engine : Dense
        Of windows at stride 1.
    refinement : Refinement
    x : float32 array (channels, *space)
    item : str
    progress : callable
        Called with the number of windows that were done since the last call.

    Yields
    ------
    Drawn, Estimate
        All draws so far, and the maps that they give, after each level, until nothing is left to
        draw.
    """
    windows, samples = refinement.windows, refinement.samples
    drawn = Drawn.nothing(windows, len(refinement.targets))
    chosen = refinement.first()
    while chosen.size:
        found = engine.expectations(x[None], [item], chosen, progress, samples)
        drawn = drawn.with_level(level_of(windows, chosen, samples, found))
        estimate = refinement.estimate(drawn)
        yield drawn, estimate
        chosen = refinement.next(chosen.number + 1, drawn, estimate)
