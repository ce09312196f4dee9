"""Linear classifiers without forward passes: exact expectations, and those of S draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines import logistic_normal
from preddiff.engines.base import Progress, finite, no_progress, over_draws
from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.samplers.base import Sampler, generator, window_voxels
from preddiff.samplers.conditional import Conditional, groups
from preddiff.samplers.gaussian import Gaussian
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Block, FloatArray, Surroundings, Windows, offsets

# Windows whose draws are turned into logits at a time, which bounds their memory likewise.
_WINDOWS_PER_PASS = 8192


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


class Shift(Protocol):
    """Distribution of the logit's shift when each window of a block is redrawn."""

    def moments(self, x: FloatArray, items: Sequence[str], logits: FloatArray) -> OutputMoments:
        """Moments for flattened inputs (items, voxels) that have the given logits (items,)."""
        ...


@dataclass(frozen=True)
class NormalShift:
    """Normal shifts: operator x + offset on average, and a deviation that x does not change."""

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


class DonorShift:
    """Shifts to finitely many values: what each donor has in the window.

    Parameters
    ----------
    donors : float64 array (donors, windows)
        Contribution w_w . x_w of the donors' windows to the logit.
    sampler : Marginal or None
        Tells which donors may lend to an item; all of them if None.
    contribution : csr array (windows, voxels)
        Takes an input to the contributions of its own windows.
    """

    def __init__(
        self, donors: FloatArray, sampler: Marginal | None, contribution: sparse.csr_array
    ) -> None:
        self.donors = donors
        self.sampler = sampler
        self.contribution = contribution
        # Exponentials are taken once per donor, not once per donor and item.
        self.inverse_odds = np.exp(-donors)

    def moments(self, x: FloatArray, items: Sequence[str], logits: FloatArray) -> OutputMoments:
        """See `Shift.moments`."""
        own = (self.contribution @ np.ascontiguousarray(x.T)).T
        rows = [self._row(*row) for row in zip(own, items, logits, strict=True)]
        return OutputMoments(*(np.stack(part) for part in zip(*rows, strict=True)))

    def _row(self, own: FloatArray, item: str, logit: float) -> tuple[FloatArray, ...]:
        everyone = np.arange(len(self.donors))
        kept = everyone if self.sampler is None else self.sampler.others(item)
        reference = expit(logit)
        scale = np.exp(own - logit)
        first, second, p = np.zeros_like(own), np.zeros_like(own), np.empty_like(own)
        for donor in kept:
            # sigmoid(logit - own + donor), less the reference.
            np.multiply(scale, self.inverse_odds[donor], out=p)
            p += 1
            np.reciprocal(p, out=p)
            p -= reference
            first += p
            p *= p
            second += p
        change = first / len(kept)
        variance = np.maximum(second / len(kept) - change**2, 0)
        return change, variance, *self._shift_moments(own, kept)

    def _shift_moments(
        self, own: FloatArray, kept: NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray]:
        left_out = np.setdiff1d(np.arange(len(self.donors)), kept)
        total, squares = self._sums
        total = total - self.donors[left_out].sum(axis=0)
        squares = squares - np.square(self.donors[left_out]).sum(axis=0)
        mean = total / len(kept)
        return mean - own, np.maximum(squares / len(kept) - mean**2, 0)

    @cached_property
    def _sums(self) -> tuple[FloatArray, FloatArray]:
        return self.donors.sum(axis=0), np.square(self.donors).sum(axis=0)


class Exact:
    """Exact expectations of a linear classifier: S draws as S goes to infinity, without noise.

    If x_w ~ N(A x_out + b, C), the logit of the redrawn input is normal with mean
    logit(x) + w_w . (A x_out + b - x_w) and variance w_w^T C w_w: the mean is a sparse linear
    function of the input and the variance does not depend on it, so both are prepared once and
    E[sigmoid] is a one-dimensional integral. The marginal sampler has finitely many values and
    grey one.

    Parameters
    ----------
    classifier : LinearClassifier
    sampler : Conditional, Marginal or Grey
    windows : Windows
    targets : sequence of Target

    Raises
    ------
    InputError
        If the sampler clips its draws, which are not normal then.
    """

    # Items share the pass over the sparse operator; more of them would not gain, but take memory.
    batch = 16

    def __init__(
        self,
        classifier: LinearClassifier,
        sampler: Sampler,
        windows: Windows,
        targets: Sequence[Target],
    ) -> None:
        if isinstance(sampler, Conditional) and sampler.clip is not None:
            raise InputError(
                "the exact estimator needs draws that are not clipped: set the sampler's clip to "
                "false, or set the estimator to samples"
            )
        self.classifier = classifier
        self.sampler = sampler
        self.windows = windows
        self.targets = targets
        self._prepared: tuple[Block, Shift] | None = None

    def prepare(self, block: Block) -> Shift:
        """Prepare a block of windows for any item; the last one prepared is kept."""
        if self._prepared is None or self._prepared[0] != block:
            self._prepared = block, _shift(self.sampler, self.classifier, self.windows, block)
        return self._prepared[1]

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
    ) -> Expectations:
        """Compute exact expectations; see `Engine.expectations`."""
        shift = self.prepare(block)
        logits = self.classifier.logit(x)
        flat = x.reshape(len(x), -1).astype(np.float64)
        moments = shift.moments(flat, items, logits)
        progress(block.size * len(items))
        found = _expectations(self.classifier, self.targets, logits, moments, block)
        return finite(found, items)


class Samples:
    """Expectations of a linear classifier over S draws, as in the paper.

    The logit follows from the redrawn window alone, so no forward pass is made; the draws are
    those that the dense engine takes.

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
        moments = OutputMoments(*(np.stack(part) for part in zip(*rows, strict=True)))
        found = _expectations(self.classifier, self.targets, logits, moments, block)
        return finite(found, items)

    def _item(
        self, x: NDArray[np.float32], item: str, logit: float, block: Block
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        draws = self.sampler.draw(
            torch.from_numpy(x),
            item,
            self.windows,
            block,
            self.samples,
            generator(self.seed, item, block),
        )
        voxels = window_voxels(self.windows, block, len(x))
        shifts = np.concatenate(
            [
                _shifts(draws[part].numpy(), x, self.classifier.weights, voxels[part])
                for start in range(0, block.size, _WINDOWS_PER_PASS)
                for part in [slice(start, start + _WINDOWS_PER_PASS)]
            ]
        )
        changes = expit(logit + shifts) - expit(logit)
        return *over_draws(changes), *over_draws(shifts)


def _shifts(
    draws: NDArray[np.float32],
    x: NDArray[np.float32],
    weights: FloatArray,
    voxels: NDArray[np.int64],
) -> FloatArray:
    change = draws.astype(np.float64) - x.reshape(-1)[voxels][:, None]
    return np.einsum("nsm,nm->ns", change, weights.reshape(-1)[voxels])


def _expectations(
    classifier: LinearClassifier,
    targets: Sequence[Target],
    logits: FloatArray,
    moments: OutputMoments,
    block: Block,
) -> Expectations:
    """Sort the moments of the second class under the targets."""
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


def _shift(sampler: Sampler, classifier: LinearClassifier, windows: Windows, block: Block) -> Shift:
    if isinstance(sampler, Conditional):
        return _normal_shift(sampler.gaussian, classifier, windows, block)
    contribution = _contribution(classifier, windows, block)
    if isinstance(sampler, Marginal):
        donors = sampler.donors.reshape(len(sampler.donors), -1).T.astype(np.float64)
        return DonorShift((contribution @ donors).T, sampler, contribution)
    if isinstance(sampler, Grey):
        grey = np.full((classifier.weights.size, 1), sampler.value)
        return DonorShift((contribution @ grey).T, None, contribution)
    raise InputError(f"{type(sampler).__name__} has no exact form: set the estimator to samples")


def _contribution(classifier: LinearClassifier, windows: Windows, block: Block) -> sparse.csr_array:
    voxels = window_voxels(windows, block, len(classifier.weights))
    return _rows(classifier.weights.reshape(-1)[voxels], voxels, classifier.weights.size)


def _normal_shift(
    gaussian: Gaussian, classifier: LinearClassifier, windows: Windows, block: Block
) -> NormalShift:
    surroundings = Surroundings(windows, gaussian.l)
    channels, *space = classifier.weights.shape
    first = np.ravel_multi_index(tuple(surroundings.first_voxels(block).T), tuple(space))
    voxels = first[:, None] + offsets(gaussian.l, tuple(space), channels)
    values = np.empty(voxels.shape)
    offset, variance = np.empty(block.size), np.empty(block.size)
    weights = classifier.weights.reshape(-1)[window_voxels(windows, block, channels)]
    for (cell, *position), members in groups(gaussian, surroundings, block):
        conditional = gaussian.conditional(cell, windows.k, tuple(position))
        w = weights[members]
        row = np.empty((len(members), voxels.shape[1]))
        row[:, conditional.inside] = -w
        row[:, ~conditional.inside] = w @ conditional.weights
        values[members] = row
        offset[members] = w @ conditional.offset
        variance[members] = np.einsum("ni,ij,nj->n", w, conditional.covariance, w, optimize=True)
    # Rounding may leave the variance of a window without weights just below zero.
    deviation = np.sqrt(np.maximum(variance, 0))
    return NormalShift(_rows(values, voxels, classifier.weights.size), offset, deviation)


def _rows(values: FloatArray, columns: NDArray[np.int64], width: int) -> sparse.csr_array:
    """Sparse matrix whose rows have equally many values at the given columns (rows, per row)."""
    pointers = np.arange(0, columns.size + 1, columns.shape[1])
    return sparse.csr_array(
        (values.reshape(-1), columns.reshape(-1).astype(np.int32), pointers.astype(np.int32)),
        shape=(len(columns), width),
    )
