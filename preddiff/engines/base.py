"""Engines: ways to the one expectation E[z | x without w], with one interface."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.samplers.base import Sampler, generator
from preddiff.windows import Block, FloatArray, Windows

Numbers = TypeVar("Numbers", FloatArray, Tensor)

# Bytes of draws that are in memory at a time. Making them takes as much again, twice.
DRAWS_IN_MEMORY = 2**28

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


Result = TypeVar("Result")


def over_parts(
    evaluate: Callable[[Block, Tensor], Result],
    sampler: Sampler,
    x: Tensor,
    item: str,
    windows: Windows,
    block: Block,
    samples: int,
    seed: int,
) -> list[Result]:
    """Draw and evaluate the windows of a block, as many at a time as memory is allowed for.

    The draws of a block that is small enough are made at once; otherwise its parts share one source
    of random numbers, so that all draws are a function of seed, item, block and settings.

    Parameters
    ----------
    evaluate : callable
        Takes a part of the block and its draws, float32 (windows, S or 1, channels * k**d), to
        anything.
    sampler, x, item, windows, block, samples
        See `Sampler.draw`.
    seed : int

    Returns
    -------
    list
        What `evaluate` gave for each part. One after the other, the windows of the parts are those
        of the block in C order.
    """
    source = generator(seed, item, block)
    numbers = len(x) * windows.k ** (x.ndim - 1) * (samples if sampler.random else 1)
    size = max(1, DRAWS_IN_MEMORY // (x.element_size() * numbers))
    return [
        evaluate(part, sampler.draw(x, item, windows, part, samples, source))
        for part in block.parts(size)
    ]


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
