"""Engines: different ways to compute the same expectations E[z | x without w]."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.samplers.draws import Sampler, generator
from preddiff.windows import Block, FloatArray, Windows

Numbers = TypeVar("Numbers", FloatArray, Tensor)

# Bytes of draws that are in memory at a time. Making them takes about twice as much in addition.
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
        Number of items that are best evaluated at a time.
    """

    batch: int

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
    ) -> Expectations:
        """Expectations of the targets of items for a block of windows.

        Parameters
        ----------
        x : float32 array (n, channels, *space)
            Inputs of the classifier, or larger parts of the items whose part `windows.view` is the
            classifier's input: samplers see all of it, the classifier its input only.
        items : sequence of str
            Names.
        block : Block
        progress : callable

        Raises
        ------
        InputError
            If they are not finite; it names the item.
        """
        ...


class DrawingEngine(Engine, Protocol):
    """An engine whose number of draws can be given block by block."""

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
        samples: int | None = None,
    ) -> Expectations:
        """Estimate expectations; see `Engine.expectations`.

        Parameters
        ----------
        x, items, block, progress
            See `Engine.expectations`.
        samples : int, optional
            Number S of draws for this block; default: that of the engine.
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
    """Draw and evaluate the windows of a block, so many at a time that draws do not take too much.

    A block that is small enough is drawn at once. The parts of a larger one share one random
    generator, so that all draws depend on seed, item, block and settings only.

    Parameters
    ----------
    evaluate : callable
        Called with each part of the block and its draws, a float32 tensor (windows, S or 1,
        channels * k**d).
    sampler, x, item, windows, block, samples
        See `Sampler.draw`; `x` is what the sampler sees.
    seed : int

    Returns
    -------
    list
        What `evaluate` returned for each part. The windows of all parts, concatenated, are those of
        the block in C order.
    """
    source = generator(seed, item, block)
    numbers = len(x) * windows.k ** (x.ndim - 1) * (samples if sampler.random else 1)
    size = max(1, DRAWS_IN_MEMORY // (x.element_size() * numbers))
    return [
        evaluate(part, sampler.draw(x, item, windows, part, samples, source))
        for part in block.parts(size)
    ]


def require_finite(found: Expectations, items: Sequence[str]) -> Expectations:
    """Return the results of an engine, unless they are not finite.

    In stores, NaN means 'not computed yet': such a block would be computed again on every run.

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
        Changes of the targets. The variance of a single draw is 0: it comes from a sampler that is
        not random.

    Returns
    -------
    mean, variance : float64 arrays or tensors (windows, ...)
    """
    draws = changes.shape[1]
    mean = changes.mean(1)
    deviations = changes - mean[:, None]
    return mean, (deviations * deviations).sum(1) / max(draws - 1, 1)
