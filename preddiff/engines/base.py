"""Engines: ways to the one expectation E[z | x without w], with one interface."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.windows import Block, FloatArray

Numbers = TypeVar("Numbers", FloatArray, Tensor)

# Called with the number of windows, possibly a fraction, that were done since the last call.
Progress = Callable[[float], object]


def no_progress(windows: float) -> None:
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
        progress: Progress = no_progress,
    ) -> Expectations:
        """Expectations of the targets of items (n, channels, *space) for a block of windows.

        Raises
        ------
        InputError
            If they are not finite.
        """
        ...


def finite(found: Expectations, items: Sequence[str]) -> Expectations:
    """Refuse expectations that are not finite: every engine passes its results through here.

    Stores take NaN for 'not computed yet', so that such a block would be computed again for ever.

    Raises
    ------
    InputError
        If a number is NaN or infinite; it names the item.
    """
    for row, item in enumerate(items):
        for values in (found.reference, found.change, found.variance):
            if not np.isfinite(values[row]).all():
                raise InputError(
                    f"item '{item}': the classifier's output is not finite, for the item itself "
                    "or for redrawn windows"
                )
    return found


def over_draws(changes: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and unbiased variance over the draws of each window.

    Parameters
    ----------
    changes : float64 array or tensor (windows, draws, ...)
        Changes of the targets. The variance of a single draw, which comes from a sampler that is
        not random, is 0.

    Returns
    -------
    mean, variance : float64 arrays or tensors (windows, ...)
    """
    draws = changes.shape[1]
    mean = changes.mean(1)
    deviations = changes - mean[:, None]
    return mean, (deviations * deviations).sum(1) / max(draws - 1, 1)
