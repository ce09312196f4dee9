"""Linear classifiers without forward passes: exact expectations, and those of S draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from math import prod
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, softmax
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
# Windows whose sparse operators are in memory at a time, if there are several for each.
_WINDOWS_IN_MEMORY = 2**17
# Voxels of draws that are converted to float64 at a time.
_NUMBERS_AT_A_TIME = 2**21


@dataclass(frozen=True)
class OutputMoments:
    """Moments of one of a linear classifier's outputs when windows are redrawn, (items, windows).

    Attributes
    ----------
    shift, shift_variance : float64 array
        Of the output: E[output'] - output and Var[output'].
    change, variance : float64 array, optional
        Of the probability p = sigmoid(output): E[p'] - p and Var[p'].
    """

    shift: FloatArray
    shift_variance: FloatArray
    change: FloatArray | None = None
    variance: FloatArray | None = None

    @classmethod
    def joined(
        cls,
        parts: Sequence["OutputMoments"],
        join: Callable[[Sequence[FloatArray]], FloatArray],
    ) -> "OutputMoments":
        """Join the moments of some items, or of parts of a block, array by array."""
        found = {one.name: [getattr(part, one.name) for part in parts] for one in fields(cls)}
        return cls(**{name: join(v) for name, v in found.items() if v[0] is not None})

    def of_target(self, target: Target, sign: int) -> tuple[FloatArray, FloatArray]:
        """Change and variance (items, windows) of a target.

        Parameters
        ----------
        target : Target
        sign : int
            1, or -1 where the target is read from the other end of the output.
        """
        if target.kind == "probability":
            assert self.change is not None and self.variance is not None
            return sign * self.change, self.variance
        return sign * self.shift, self.shift_variance


class Shift(Protocol):
    """Distribution of an output's shift when each window of a block is redrawn."""

    def moments(
        self, x: FloatArray, items: Sequence[str], logits: FloatArray | None
    ) -> OutputMoments:
        """Moments for flattened inputs (items, voxels).

        Parameters
        ----------
        x : float64 array (items, voxels)
        items : sequence of str
        logits : float64 array (items,), optional
            The output, if moments of its sigmoid are needed.
        """
        ...


@dataclass(frozen=True)
class NormalShift:
    """Normal shifts, with mean operator @ x + offset and a deviation that does not depend on x."""

    operator: sparse.csr_array
    offset: FloatArray
    deviation: FloatArray

    def moments(
        self, x: FloatArray, items: Sequence[str], logits: FloatArray | None
    ) -> OutputMoments:
        """See `Shift.moments`."""
        shift = (self.operator @ np.ascontiguousarray(x.T)).T + self.offset
        found = OutputMoments(shift, np.broadcast_to(self.deviation**2, shift.shape))
        if logits is None:
            return found
        first, second = logistic_normal.moments(logits[:, None] + shift, self.deviation)
        # Rounding may leave the difference of moments just below zero.
        variance = np.maximum(second - first**2, 0)
        return replace(found, change=first - expit(logits)[:, None], variance=variance)


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

    @cached_property
    def inverse_odds(self) -> FloatArray:
        """Exponentials, which are taken once per value, not once per value and item."""
        return np.exp(-self.sums, order="C")

    def moments(
        self, x: FloatArray, items: Sequence[str], logits: FloatArray | None
    ) -> OutputMoments:
        """See `Shift.moments`."""
        own = (self.operator @ np.ascontiguousarray(x.T)).T
        rows = []
        for number, (row, item) in enumerate(zip(own, items, strict=True)):
            chosen = self.choices(item)
            found = OutputMoments(*self._shift_moments(row, chosen))
            if logits is not None:
                change, variance = self._changes(row, chosen, logits[number])
                found = replace(found, change=change, variance=variance)
            rows.append(found)
        return OutputMoments.joined(rows, np.stack)

    def _changes(
        self, own: FloatArray, chosen: IntArray, logit: float
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the change of the sigmoid."""
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
        return change, np.maximum(second / len(chosen) - change**2, 0)

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
        Of what the sampler sees; the classifier sees the part `windows.view` of it.
    targets : sequence of Target

    Raises
    ------
    InputError
        If the sampler has no exact form, or a target has no exact expectation.
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
        for target in targets:
            if not classifier.has_exact_expectation(target):
                raise InputError(
                    f"target '{target}' has no exact expectation, since there are more than two "
                    f"classes: explain logit:{target.label}, or set the estimator to samples"
                )
        self.classifier = classifier
        self.sampler = sampler
        self.windows = windows
        self.targets = targets
        self._read = [classifier.output_of(target.label) for target in targets]
        # Outputs that are explained, and whether moments of their sigmoid are needed.
        self._outputs: dict[int, bool] = {}
        for target, (number, _) in zip(targets, self._read, strict=True):
            needed = self._outputs.get(number, False) or target.kind == "probability"
            self._outputs[number] = needed
        self._prepared: tuple[Block, dict[int, Shift]] | None = None

    def prepare(self, block: Block) -> dict[int, Shift]:
        """Prepare a block of windows, or a part of it, for any item; the last one is cached.

        Returns
        -------
        dict of int to Shift
            By output that is explained.
        """
        if self._prepared is None or self._prepared[0] != block:
            # Free the last one first, since the next one takes as much memory.
            self._prepared = None
            self._prepared = block, {number: self._shift(block, number) for number in self._outputs}
        return self._prepared[1]

    def _shift(self, block: Block, output: int) -> Shift:
        # Voxels around the classifier's input do not change its output.
        weights = self.windows.padded(self.classifier.maps[output])
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
        outputs = self.classifier.outputs(self.windows.cut(x), items)
        flat = x.reshape(len(x), -1).astype(np.float64)
        parts: dict[int, list[OutputMoments]] = {number: [] for number in self._outputs}
        for part in block.parts(self._windows_at_a_time(items)):
            for number, shift in self.prepare(part).items():
                logits = outputs[:, number] if self._outputs[number] else None
                parts[number].append(shift.moments(flat, items, logits))
            progress(part.size * len(items))
        join = partial(np.concatenate, axis=1)
        moments = {number: OutputMoments.joined(found, join) for number, found in parts.items()}
        found = [
            (self.classifier.value(target, outputs), *moments[number].of_target(target, sign))
            for target, (number, sign) in zip(self.targets, self._read, strict=True)
        ]
        return require_finite(_expectations(found, block), items)

    def _windows_at_a_time(self, items: Sequence[str]) -> int:
        """Number of windows whose weighted sums, or operators, do not take too much memory."""
        if isinstance(self.sampler, HasNormalShift):
            one = len(self._outputs) == 1
            return prod(self.windows.shape) if one else _WINDOWS_IN_MEMORY // len(self._outputs)
        values = max(len(self.sampler.choices(item)) for item in items)
        return max(1, _SUMS_IN_MEMORY // (8 * values * len(self._outputs)))


class Samples:
    """Expectations of a linear classifier over S draws, as in the paper.

    The outputs follow from the redrawn window alone, so that no forward pass is needed; the draws
    are those of the dense engine.

    Parameters
    ----------
    classifier : LinearClassifier
    sampler : Sampler
    windows : Windows
        Of what the sampler sees; the classifier sees the part `windows.view` of it.
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
        # A softmax depends on all outputs.
        is_softmax = not all(classifier.has_exact_expectation(target) for target in targets)
        explained = [classifier.output_of(target.label)[0] for target in targets]
        outputs = range(len(classifier.maps)) if is_softmax else sorted({*explained})
        self._weights = {number: windows.padded(classifier.maps[number]) for number in outputs}

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
    ) -> Expectations:
        """Estimate expectations; see `Engine.expectations`."""
        outputs = self.classifier.outputs(self.windows.cut(x), items)
        rows = []
        for one in zip(x, items, outputs, strict=True):
            rows.append(self._item(*one, block))
            progress(block.size)
        found = [
            (self.classifier.value(target, outputs), *map(np.stack, zip(*moments, strict=True)))
            for target, moments in zip(self.targets, zip(*rows, strict=True), strict=True)
        ]
        return require_finite(_expectations(found, block), items)

    def _item(
        self, x: NDArray[np.float32], item: str, outputs: FloatArray, block: Block
    ) -> list[tuple[FloatArray, FloatArray]]:
        """Mean and variance (windows,) of each target's change for an item."""

        def evaluate(part: Block, draws: Tensor) -> list[tuple[FloatArray, FloatArray]]:
            voxels = window_voxels(self.windows, part, len(x))
            shifts = {
                number: _shifts(draws.numpy(), x, weights, voxels)
                for number, weights in self._weights.items()
            }
            return [over_draws(self._changes(one, outputs, shifts)) for one in self.targets]

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
        # By target and moment: the windows of all parts.
        return [
            (np.concatenate([mean for mean, _ in parts]), np.concatenate([v for _, v in parts]))
            for parts in zip(*found, strict=True)
        ]

    def _changes(
        self, target: Target, outputs: FloatArray, shifts: Mapping[int, FloatArray]
    ) -> FloatArray:
        """Change of a target (windows, draws) when the outputs (outputs,) of an item shift."""
        number, sign = self.classifier.output_of(target.label)
        if target.kind != "probability":
            return sign * shifts[number]
        if len(outputs) == 1:
            return sign * (expit(outputs[0] + shifts[0]) - expit(outputs[0]))
        every = np.stack([outputs[one] + shifts[one] for one in range(len(outputs))], axis=-1)
        return softmax(every, axis=-1)[..., number] - softmax(outputs)[number]


def _shifts(
    draws: NDArray[np.float32], x: NDArray[np.float32], weights: FloatArray, voxels: IntArray
) -> FloatArray:
    """Shifts of an output (windows, draws) for draws (windows, draws, m)."""
    flat, step = x.reshape(-1), max(1, _NUMBERS_AT_A_TIME // draws[0].size)
    shifts = np.empty(draws.shape[:2])
    for start in range(0, len(draws), step):
        part = slice(start, start + step)
        change = draws[part].astype(np.float64) - flat[voxels[part]][:, None]
        shifts[part] = np.einsum("nsm,nm->ns", change, weights.reshape(-1)[voxels[part]])
    return shifts


def _expectations(found: Sequence[tuple[FloatArray, ...]], block: Block) -> Expectations:
    """Join reference (items,), change and variance (items, windows) of each target."""
    references, changes, variances = (np.stack(one, axis=1) for one in zip(*found, strict=True))
    shape = (*references.shape, *block.shape)
    return Expectations(references, changes.reshape(shape), variances.reshape(shape))
