"""Expectations level by level: a refinement, computed by an engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preddiff.engines.base import Progress, no_progress
from preddiff.engines.dense import Dense
from preddiff.refinement import Drawn, Estimate, Refinement, level_of


@dataclass(frozen=True, eq=False)
class Level:
    """What is known of an item after a level.

    Attributes
    ----------
    number : int
        From 0.
    new : Drawn
        The draws of this level alone.
    drawn : Drawn
        Those of all levels so far.
    estimate : Estimate
        The maps that all levels give.
    """

    number: int
    new: Drawn
    drawn: Drawn
    estimate: Estimate


def levels(
    engine: Dense,
    refinement: Refinement,
    x: NDArray[np.float32],
    item: str,
    progress: Progress = no_progress,
    before: Sequence[Drawn] = (),
) -> Iterator[Level]:
    """Draw the windows of an item level by level.

    Parameters
    ----------
    engine : Dense
        Of windows at stride 1.
    refinement : Refinement
    x : float32 array (channels, *space)
        See `Engine.expectations`.
    item : str
    progress : callable
        Called with the number of windows that were done since the last call.
    before : sequence of Drawn
        The first levels, if they are known, each by itself. The others are the same as without
        them.

    Yields
    ------
    Level
        Each level that is not known, until nothing is left to draw.
    """
    windows, samples = refinement.windows, refinement.samples
    drawn = Drawn.nothing(windows, len(refinement.targets))
    chosen = refinement.first()
    if before:
        for level in before:
            drawn = drawn.with_level(level)
        chosen = refinement.next(len(before), drawn, refinement.estimate(drawn))
    while chosen.size:
        found = engine.expectations(x[None], [item], chosen, progress, samples)
        new = level_of(windows, chosen, samples, found)
        drawn = drawn.with_level(new)
        estimate = refinement.estimate(drawn)
        yield Level(chosen.number, new, drawn, estimate)
        chosen = refinement.next(chosen.number + 1, drawn, estimate)
