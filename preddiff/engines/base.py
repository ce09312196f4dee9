"""Engines: ways to the one expectation E[z | x without w], with one interface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from preddiff.windows import Block, FloatArray


@dataclass(frozen=True)
class Expectations:
    """What redrawing the windows of a block does to the targets of some items.

    Attributes
    ----------
    reference : float64 array (items, targets)
        Value z of the targets for the intact items.
    change : float64 array (items, targets, *block.shape)
        E[z | x without w] - z. It is carried apart from z: where a window hardly matters, the
        sum of both would lose it in rounding.
    variance : float64 array (items, targets, *block.shape)
        Variance of z over draws: of the distribution for exact engines, else the unbiased
        estimate (0 for samplers that are not random).
    """

    reference: FloatArray
    change: FloatArray
    variance: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Expectation E[z | x without w], shape (items, targets, *block.shape)."""
        axes = tuple(range(2, self.change.ndim))
        return np.expand_dims(self.reference, axes) + self.change


# Called with the number of windows, a fraction perhaps, that were done since the last call.
Progress = Callable[[float], object]


def unseen(windows: float) -> None:
    """Show no progress."""


class Engine(Protocol):
    """Computes expectations, block by block.

    Attributes
    ----------
    batch : int
        Number of items that it takes best at a time.
    """

    batch: int

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = unseen,
    ) -> Expectations:
        """Expectations of the targets of items (n, channels, *space) for a block of windows."""
        ...


def over_draws(changes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and unbiased variance over the draws of each window.

    Parameters
    ----------
    changes : float64 array (windows, draws, ...)
        Changes of the targets; a single draw comes from a sampler that is not random.

    Returns
    -------
    mean, variance : float64 arrays (windows, ...)
    """
    mean = changes.mean(axis=1)
    if changes.shape[1] == 1:
        return mean, np.zeros_like(mean)
    return mean, changes.var(axis=1, ddof=1)
