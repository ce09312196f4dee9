"""What is known of the windows of an item after some levels, in one precision or in two.

Rounding in reduced precision shifts a map. The shift is found from windows whose draws are made in
float32 too: the mean of float32 less reduced precision, over the same draws, is a control variate
(M. B. Giles, "Multilevel Monte Carlo methods", Acta Numerica 24, 2015, section 1.2).
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from preddiff.evidence import Expectations
from preddiff.windows import FloatArray, IntArray, Selection, Windows


@dataclass(frozen=True, eq=False)
class Chosen:
    """Windows of a level, and how often each is drawn.

    Attributes
    ----------
    number : int
        Of the level, from 0.
    alone : Selection
        Windows that are drawn in the precision of the explanation; one that is to have more draws
        is in it several times.
    both : Selection
        Windows whose draws are made in float32 too. Empty if the shift is not wanted.
    """

    number: int
    alone: Selection
    both: Selection

    @property
    def size(self) -> int:
        """Entries of both selections."""
        return self.alone.size + self.both.size


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is known of the windows of an item.

    Attributes
    ----------
    reference : float64 array (targets,)
    draws : int64 array (*windows.shape)
        Draws of each window; 0 if it was not drawn, so that its evidence is interpolated.
    change, variance : float64 arrays (targets, *windows.shape)
        Mean over draws, less the reference, and variance over draws; 0 without draws.
    shift : Drawn, optional
        In two precisions: of the draws that were made in both, what they are in float32 less what
        they are in reduced precision. Its reference is 0, since values in reduced precision are
        matched to float32 at the intact item (`Evidence.matched`).
    """

    reference: FloatArray
    draws: IntArray
    change: FloatArray
    variance: FloatArray
    shift: "Drawn | None" = None

    @classmethod
    def nothing(cls, windows: Windows, targets: int, in_two_precisions: bool = False) -> "Drawn":
        """Nothing is known yet."""
        shape = (targets, *windows.shape)
        return cls(
            np.zeros(targets),
            np.zeros(windows.shape, np.int64),
            np.zeros(shape),
            np.zeros(shape),
            cls.nothing(windows, targets) if in_two_precisions else None,
        )

    def with_level(self, level: "Drawn") -> "Drawn":
        """Add the draws of a level (Chan, Golub and LeVeque, 1983)."""
        before, new = self.draws, level.draws
        total = np.maximum(before + new, 1)
        step = level.change - self.change
        squares = self.variance * np.maximum(before - 1, 0) + level.variance * np.maximum(
            new - 1, 0
        )
        squares += np.square(step) * (before * new / total)
        both = None
        if self.shift is not None and level.shift is not None:
            both = self.shift.with_level(level.shift)
        return Drawn(
            level.reference,
            before + new,
            self.change + step * (new / total),
            squares / np.maximum(total - 1, 1),
            both,
        )

    @property
    def passes(self) -> int:
        """Forward passes that were made, in all precisions."""
        return int(self.draws.sum()) + (0 if self.shift is None else self.shift.passes)


def level_of(
    windows: Windows,
    chosen: Selection,
    samples: int,
    found: Expectations,
    shift: Drawn | None = None,
) -> Drawn:
    """Collect the draws of a level.

    Parameters
    ----------
    windows : Windows
    chosen : Selection
        Windows; one that is to have more draws is in it several times.
    samples : int
        Draws of each of its entries.
    found : Expectations
        Of one item and these windows.
    shift : Drawn, optional
        See `Drawn.shift`.

    Returns
    -------
    Drawn
        Rounded to float32, as it is stored, so that it does not matter whether it was.
    """
    place = np.ravel_multi_index(tuple(chosen.index.T), windows.shape)
    count = prod(windows.shape)
    entries = np.maximum(np.bincount(place, minlength=count), 1)

    def mean(values: FloatArray) -> FloatArray:
        rows = [np.bincount(place, row, minlength=count) / entries for row in values]
        return np.stack(rows)

    change = mean(found.change[0])
    between = mean(np.square(found.change[0] - change[:, place])) * entries * samples
    within = mean(found.variance[0]) * entries * (samples - 1)
    draws = np.bincount(place, minlength=count) * samples
    shape = (-1, *windows.shape)
    return Drawn(
        _as_stored(found.reference[0]),
        draws.reshape(windows.shape),
        _as_stored(change).reshape(shape),
        _as_stored((between + within) / np.maximum(draws - 1, 1)).reshape(shape),
        shift,
    )


def _as_stored(values: FloatArray) -> FloatArray:
    return values.astype(np.float32).astype(np.float64)
