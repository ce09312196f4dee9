"""Linear classifiers without forward passes: exact expectations, and those of S draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from math import prod
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from torch import Tensor

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines import logistic_normal
from preddiff.engines.base import Progress, no_progress, over_draws, over_parts, require_finite
from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.samplers.draws import Sampler, window_voxels
from preddiff.samplers.exact_form import HasFiniteValues, HasNormalShift, window_sums
from preddiff.targets import Target
from preddiff.windows import Block, FloatArray, IntArray, Windows

# Bytes of the weighted sums of finitely many values that are in memory at a time.
_SUMS_IN_MEMORY = 2**28
# Voxels of draws that are converted to float64 at a time.
_NUMBERS_AT_A_TIME = 2**21


@dataclass(frozen=True)
class OutputMoments:
    """Moments of a linear classifier's output when windows are redrawn, each (items, windows).

    Attributes
    ----------
    change, variance : float64 array
        Of the second class's probability p: E[p'] - p and Var[p'].
    shift, shift_variance : float64 array
        Of its logit: E[logit'] - logit and Var[logit'].
    """

    change: FloatArray
    variance: FloatArray
    shift: FloatArray
    shift_variance: FloatArray

    @classmethod
    def joined(
        cls,
        parts: Sequence["OutputMoments"],
        join: Callable[[Sequence[FloatArray]], FloatArray],
    ) -> "OutputMoments":
        """Join the moments of some items, or of parts of a block, array by array."""
        return cls(*(join([getattr(part, one.name) for part in parts]) for one in fields(cls)))


class Shift(Protocol):
    """Distribution of the logit's shift when each window of a block is redrawn."""

    def moments(self, x: FloatArray, items: Sequence[str], logits: FloatArray) -> OutputMoments:
        """Moments for flattened inputs (items, voxels) that have the given logits (items,)."""
        ...


@dataclass(frozen=True)
class NormalShift:
    """Normal shifts, with mean operator @ x + offset and a deviation that does not depend on x."""

    operator: sparse.csr_array
    offset: FloatArray
    deviation: FloatArray

    def moments(self, x: FloatArray, items: Sequence[str], logits: FloatArray) -> OutputMoments:
        """See `Shift.moments`."""
        shift = (self.operator @ np.ascontiguousarray(x.T)).T + self.offset
        first, second = logistic_normal.moments(logits[:, None] + shift, self.deviation)
        # Rounding may leave the difference of moments just below zero.
        variance = np.maximum(second - first**2, 0)
        return OutputMoments(
            first - expit(logits)[:, None],
            variance,
            shift,
            np.broadcast_to(self.deviation**2, shift.shape),
        )


class FiniteShift:
    """Shifts to finitely many values, all equally likely.

    Parameters
    ----------
    sums : float64 array (values, windows)
        Weighted sums w_w . v_w of the values that windows may be replaced by.
    choices : callable
        Maps the name of an item to the values that its windows may be replaced by, as rows of
        `sums`.
    operator : csr array (windows, voxels)
        Maps an input to the weighted sums w_w . x_w of its own windows.
    """

    def __init__(
        self,
        sums: FloatArray,
        choices: Callable[[str], IntArray],
        operator: sparse.csr_array,
    ) -> None:
        self.sums = sums
        self.choices = choices
        self.operator = operator
        # Exponentials are taken once per value, not once per value and item.
        self.inverse_odds = np.exp(-sums, order="C")

    def moments(self, x: FloatArray, items: Sequence[str], logits: FloatArray) -> OutputMoments:
        """See `Shift.moments`."""
        own = (self.operator @ np.ascontiguousarray(x.T)).T
        rows = [self._row(*row) for row in zip(own, items, logits, strict=True)]
        return OutputMoments.joined(rows, np.stack)

    def _row(self, own: FloatArray, item: str, logit: float) -> OutputMoments:
        chosen = self.choices(item)
        reference = expit(logit)
        scale = np.exp(own - logit)
        first, second, p = np.zeros_like(own), np.zeros_like(own), np.empty_like(own)
        for value in chosen:
            # sigmoid(logit - own + sum), less the reference.
            np.multiply(scale, self.inverse_odds[value], out=p)
            p += 1
            np.reciprocal(p, out=p)
            p -= reference
            first += p
            p *= p
            second += p
        change = first / len(chosen)
        variance = np.maximum(second / len(chosen) - change**2, 0)
        return OutputMoments(change, variance, *self._shift_moments(own, chosen))

    def _shift_moments(self, own: FloatArray, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
        left_out = np.setdiff1d(np.arange(len(self.sums)), chosen)
        total, squares = self._totals
        total = total - self.sums[left_out].sum(axis=0)
        squares = squares - np.square(self.sums[left_out]).sum(axis=0)
        mean = total / len(chosen)
        return mean - own, np.maximum(squares / len(chosen) - mean**2, 0)

    @cached_property
    def _totals(self) -> tuple[FloatArray, FloatArray]:
        return self.sums.sum(axis=0), np.square(self.sums).sum(axis=0)


class Exact:
    """Exact expectations of a linear classifier: S draws as S goes to infinity, without noise.

    If x_w ~ N(A x_out + b, C), the logit of the redrawn input is normal with mean
    logit(x) + w_w . (A x_out + b - x_w) and variance w_w^T C w_w: the mean is a sparse linear
    function of the input and the variance does not depend on it, so both are prepared once and
    E[sigmoid] is a one-dimensional integral. For a sampler that replaces windows by finitely many
    values, it is a mean over these.

    Parameters
    ----------
    classifier : LinearClassifier
    sampler : Sampler
        With a normal shift or finitely many values; see `preddiff.samplers.exact_form`.
    windows : Windows
    targets : sequence of Target

    Raises
    ------
    InputError
        If the sampler has no exact form.
    """

    # Items share the pass over the sparse operator; more of them are no faster, but take memory.
    batch = 16

    def __init__(
        self,
        classifier: LinearClassifier,
        sampler: Sampler,
        windows: Windows,
        targets: Sequence[Target],
    ) -> None:
        if not isinstance(sampler, HasNormalShift | HasFiniteValues):
            raise InputError(
                f"{type(sampler).__name__} has no exact form: set the estimator to samples"
            )
        self.classifier = classifier
        self.sampler = sampler
        self.windows = windows
        self.targets = targets
        self._prepared: tuple[Block, Shift] | None = None

    def prepare(self, block: Block) -> Shift:
        """Prepare a block of windows, or a part of it, for any item; the last one is cached."""
        if self._prepared is None or self._prepared[0] != block:
            # Free the last one first, since the next one takes as much memory.
            self._prepared = None
            self._prepared = block, self._shift(block)
        return self._prepared[1]

    def _shift(self, block: Block) -> Shift:
        weights = self.classifier.weights
        if isinstance(self.sampler, HasNormalShift):
            return NormalShift(*self.sampler.normal_shift(weights, self.windows, block))
        operator = window_sums(weights, self.windows, block)
        return FiniteShift(self.sampler.weighted_sums(operator), self.sampler.choices, operator)

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
    ) -> Expectations:
        """Compute exact expectations; see `Engine.expectations`."""
        logits = self.classifier.logit(x)
        flat = x.reshape(len(x), -1).astype(np.float64)
        parts = []
        for part in block.parts(self._windows_at_a_time(items)):
            parts.append(self.prepare(part).moments(flat, items, logits))
            progress(part.size * len(items))
        moments = OutputMoments.joined(parts, partial(np.concatenate, axis=1))
        found = _expectations(self.classifier, self.targets, logits, moments, block)
        return require_finite(found, items)

    def _windows_at_a_time(self, items: Sequence[str]) -> int:
        """Number of windows whose weighted sums do not take too much memory."""
        if isinstance(self.sampler, HasNormalShift):
            return prod(self.windows.shape)
        values = max(len(self.sampler.choices(item)) for item in items)
        return max(1, _SUMS_IN_MEMORY // (8 * values))


class Samples:
    """Expectations of a linear classifier over S draws, as in the paper.

    The logit follows from the redrawn window alone, so that no forward pass is needed; the draws
    are those of the dense engine.

    Parameters
    ----------
    classifier : LinearClassifier
    sampler : Sampler
    windows : Windows
    targets : sequence of Target
    samples : int
        Number S of draws.
    seed : int
    """

    batch = 1

    def __init__(
        self,
        classifier: LinearClassifier,
        sampler: Sampler,
        windows: Windows,
        targets: Sequence[Target],
        samples: int,
        seed: int,
    ) -> None:
        self.classifier = classifier
        self.sampler = sampler
        self.windows = windows
        self.targets = targets
        self.samples = samples
        self.seed = seed

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
    ) -> Expectations:
        """Estimate expectations; see `Engine.expectations`."""
        logits = self.classifier.logit(x)
        rows = []
        for one in zip(x, items, logits, strict=True):
            rows.append(self._item(*one, block))
            progress(block.size)
        moments = OutputMoments.joined(rows, np.stack)
        found = _expectations(self.classifier, self.targets, logits, moments, block)
        return require_finite(found, items)

    def _item(self, x: NDArray[np.float32], item: str, logit: float, block: Block) -> OutputMoments:
        def evaluate(part: Block, draws: Tensor) -> OutputMoments:
            voxels = window_voxels(self.windows, part, len(x))
            shifts = _shifts(draws.numpy(), x, self.classifier.weights, voxels)
            changes = expit(logit + shifts) - expit(logit)
            return OutputMoments(*over_draws(changes), *over_draws(shifts))

        found = over_parts(
            evaluate,
            self.sampler,
            torch.from_numpy(x),
            item,
            self.windows,
            block,
            self.samples,
            self.seed,
        )
        return OutputMoments.joined(found, np.concatenate)


def _shifts(
    draws: NDArray[np.float32], x: NDArray[np.float32], weights: FloatArray, voxels: IntArray
) -> FloatArray:
    """Shifts of the logit (windows, draws) for draws (windows, draws, m)."""
    flat, step = x.reshape(-1), max(1, _NUMBERS_AT_A_TIME // draws[0].size)
    shifts = np.empty(draws.shape[:2])
    for start in range(0, len(draws), step):
        part = slice(start, start + step)
        change = draws[part].astype(np.float64) - flat[voxels[part]][:, None]
        shifts[part] = np.einsum("nsm,nm->ns", change, weights.reshape(-1)[voxels[part]])
    return shifts


def _expectations(
    classifier: LinearClassifier,
    targets: Sequence[Target],
    logits: FloatArray,
    moments: OutputMoments,
    block: Block,
) -> Expectations:
    """Assign the moments of the second class to the targets."""
    references, changes, variances = [], [], []
    for target in targets:
        sign = 1 if target.label == classifier.classes[1] else -1
        if target.kind == "probability":
            references.append(expit(sign * logits))
            changes.append(sign * moments.change)
            variances.append(moments.variance)
        else:
            references.append(sign * logits)
            changes.append(sign * moments.shift)
            variances.append(moments.shift_variance)
    shape = (len(logits), len(targets), *block.shape)
    return Expectations(
        np.stack(references, axis=1),
        np.stack(changes, axis=1).reshape(shape),
        np.stack(variances, axis=1).reshape(shape),
    )
