"""Expectations level by level: a refinement, computed by an engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preddiff.drawn import Chosen, Drawn, level_of
from preddiff.engines.base import DrawingEngine, Progress, no_progress
from preddiff.evidence import Expectations
from preddiff.refinement import Estimate, Refinement
from preddiff.windows import FloatArray, Selection


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
    engine: DrawingEngine,
    refinement: Refinement,
    x: NDArray[np.float32],
    item: str,
    progress: Progress = no_progress,
    before: Sequence[Drawn] = (),
    in_float32: DrawingEngine | None = None,
) -> Iterator[Level]:
    """Draw the windows of an item level by level.

    Parameters
    ----------
    engine : DrawingEngine
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
    in_float32 : DrawingEngine, optional
        The same engine in float32, if the other one is in reduced precision: the refinement is one
        in two precisions then.

    Yields
    ------
    Level
        Each level that is not known, until nothing is left to draw.
    """
    draw = _Draw(engine, in_float32, refinement, x, item, progress)
    drawn = refinement.nothing()
    chosen = refinement.first()
    if before:
        for level in before:
            drawn = drawn.with_level(level)
        chosen = refinement.next(len(before), drawn, refinement.estimate(drawn))
    while chosen.size:
        new = draw(chosen, drawn.reference)
        drawn = drawn.with_level(new)
        estimate = refinement.estimate(drawn)
        yield Level(chosen.number, new, drawn, estimate)
        chosen = refinement.next(chosen.number + 1, drawn, estimate)


@dataclass(frozen=True, eq=False)
class _Draw:
    """Draws the windows of a level of an item; see `levels`."""

    engine: DrawingEngine
    in_float32: DrawingEngine | None
    refinement: Refinement
    x: NDArray[np.float32]
    item: str
    progress: Progress

    def __call__(self, chosen: Chosen, reference: FloatArray) -> Drawn:
        """Draw a level, given the values of the targets in float32 if there are levels before."""
        windows, samples = self.refinement.windows, self.refinement.samples
        if self.in_float32 is None:
            found = self.engine.expectations(
                self.x[None], [self.item], chosen.alone, self.progress, samples
            )
            return level_of(windows, chosen.alone, samples, found)
        parts: list[Selection] = []
        ours: list[FloatArray] = []
        shift = self.refinement.nothing().shift
        if chosen.both.size:
            exact = self._single(self.in_float32, chosen.both)
            reference = exact.reference[0]
            ours.append(self._matched(chosen.both, reference))
            difference = exact.change - ours[0][None]
            shift = level_of(windows, chosen.both, 1, _changes(0 * reference, difference[0]))
            parts.append(chosen.both)
        if chosen.alone.size:
            ours.append(self._matched(chosen.alone, reference))
            parts.append(chosen.alone)
        every = Selection(chosen.number, np.concatenate([part.index for part in parts]))
        changes = _changes(reference, np.concatenate(ours, axis=1))
        return level_of(windows, every, 1, changes, shift)

    def _single(self, engine: DrawingEngine, chosen: Selection) -> Expectations:
        def progress(windows: float) -> None:
            self.progress(windows / self.refinement.samples)

        return engine.expectations(self.x[None], [self.item], chosen, progress, 1)

    def _matched(self, chosen: Selection, reference: FloatArray) -> FloatArray:
        """Changes (targets, entries) in reduced precision, matched to float32."""
        found = self._single(self.engine, chosen)
        rows = zip(
            self.refinement.targets, found.reference[0], found.change[0], reference, strict=True
        )
        return np.stack([self.refinement.evidence.matched(*row) for row in rows])


def _changes(reference: FloatArray, changes: FloatArray) -> Expectations:
    """Single draws of an item: changes of the targets (targets, entries)."""
    return Expectations(reference[None], changes[None], np.zeros_like(changes)[None])
