"""Expectations, evidence of windows and relevance of voxels: section 3 of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preddiff.targets import Target
from preddiff.windows import FloatArray, Windows


@dataclass(frozen=True)
class Expectations:
    """Expectations of targets of some items, for each window of a block.

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


def laplace_correction(p: ArrayLike, training_size: float, classes: int) -> FloatArray:
    """Keep probabilities away from 0 and 1, as in section 3 of the paper.

    Parameters
    ----------
    p : array_like
        Probabilities.
    training_size : float
        Number N of training instances.
    classes : int
        Number K of classes.

    Returns
    -------
    float64 array
        (p N + 1) / (N + K).
    """
    return (np.asarray(p, dtype=np.float64) * training_size + 1) / (training_size + classes)


def weight_of_evidence(
    reference: ArrayLike, change: ArrayLike, training_size: float, classes: int
) -> FloatArray:
    """Weight of evidence of windows for a class (eq. 4 of the paper), in bits.

    It is log2 odds(p) - log2 odds(E[p]) after Laplace correction of both, written in terms of
    the change E[p] - p: where a window hardly matters, the difference of two nearly equal
    log-odds would be lost in rounding.

    Parameters
    ----------
    reference : array_like
        Probability p of the class for the intact input.
    change : array_like
        E[p] - p, the expected change when the window is redrawn; broadcasts with `reference`.
    training_size, classes : float, int
        N and K of the Laplace correction.

    Returns
    -------
    float64 array
        Positive where the window speaks for the class.
    """
    p = laplace_correction(reference, training_size, classes)
    step = np.asarray(change, dtype=np.float64) * training_size / (training_size + classes)
    return (np.log1p(-step / (1 - p)) - np.log1p(step / p)) / np.log(2)


def change_of_evidence(
    reference: ArrayLike, evidence: ArrayLike, training_size: float, classes: int
) -> FloatArray:
    """Return the expected change E[p] - p with some weight of evidence, the inverse of it.

    Evidence that no probability has is taken as that of the nearest one.
    """
    p = laplace_correction(reference, training_size, classes)
    odds = p / (1 - p) * np.exp2(-np.asarray(evidence, dtype=np.float64))
    q = (odds / (1 + odds) * (training_size + classes) - 1) / training_size
    return np.clip(q, 0, 1) - np.asarray(reference)


def weight_of_evidence_slope(
    reference: ArrayLike, change: ArrayLike, training_size: float, classes: int
) -> FloatArray:
    """Derivative of the weight of evidence with respect to E[p], in bits; never positive."""
    scale = training_size / (training_size + classes)
    q = laplace_correction(np.asarray(reference) + np.asarray(change), training_size, classes)
    return -scale / (q * (1 - q) * np.log(2))


def weight_of_evidence_curvature(
    reference: ArrayLike, change: ArrayLike, training_size: float, classes: int
) -> FloatArray:
    """Second derivative of the weight of evidence with respect to E[p], in bits."""
    scale = training_size / (training_size + classes)
    q = laplace_correction(np.asarray(reference) + np.asarray(change), training_size, classes)
    return np.square(scale) * (1 / np.square(q) - 1 / np.square(1 - q)) / np.log(2)


def activation_difference(change: ArrayLike) -> FloatArray:
    """Activation difference z - E[z] (eq. 6 of the paper) from the change E[z] - z."""
    return -np.asarray(change, dtype=np.float64)


def relevance(evidence: NDArray[np.floating], windows: Windows) -> FloatArray:
    """Average evidence over the windows that contain each voxel (Algorithm 1: WE / counts).

    Parameters
    ----------
    evidence : array (..., *windows.shape)

    Returns
    -------
    float64 array (..., *space)
        Of the voxels that the classifier sees.
    """
    return windows.cut(windows.sum_over_windows(evidence)) / windows.cut(windows.counts)


def standard_error(evidence_error: NDArray[np.floating], windows: Windows) -> FloatArray:
    """Standard error of relevance from those of the windows, whose draws are independent.

    Parameters
    ----------
    evidence_error : array (..., *windows.shape)
        Standard error of each window's evidence.

    Returns
    -------
    float64 array (..., *space)
        Of the voxels that the classifier sees.
    """
    variance = windows.cut(windows.sum_over_windows(np.square(evidence_error)))
    return np.sqrt(variance) / windows.cut(windows.counts)


@dataclass(frozen=True)
class Evidence:
    """How expectations become evidence.

    Attributes
    ----------
    samples : int, optional
        Draws S behind the expectations; None if they are exact.
    training_size, classes : int
        N and K of the Laplace correction.
    """

    samples: int | None
    training_size: int
    classes: int

    def maps(
        self, targets: Sequence[Target], windows: Windows, found: Mapping[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Relevance and its standard error of an item.

        Parameters
        ----------
        targets : sequence of Target
        windows : Windows
        found : mapping
            `reference` (targets,); `change` and `variance` (targets, *windows.shape).

        Returns
        -------
        relevance, stderr : float32 arrays (targets, *space)
        """
        pairs = [
            self._of_target(
                target,
                windows,
                *(np.float64(found[name][row]) for name in ("reference", "change", "variance")),
            )
            for row, target in enumerate(targets)
        ]
        maps, errors = (np.stack(values).astype(np.float32) for values in zip(*pairs, strict=True))
        return maps, errors

    def of_draws(
        self, target: Target, reference: float, change: FloatArray, variance: FloatArray, draws: Any
    ) -> tuple[FloatArray, FloatArray]:
        """Evidence of windows, without the bias of few draws, and its variance at a single draw.

        The logarithm of a mean of few draws is biased. To second order (the delta method) the bias
        is f''(E[p]) Var(p) / (2 S), which is subtracted.

        Parameters
        ----------
        target : Target
        reference : float
            Value z of the target for the intact item.
        change, variance : float64 arrays (...)
            Mean of z over draws, less the reference; variance of z over draws.
        draws : int array (...)
            Number S of draws, at least 1.

        Returns
        -------
        evidence, variance : float64 arrays (...)
        """
        if target.has_linear_evidence:
            return activation_difference(change), np.asarray(variance)
        size = (self.training_size, self.classes)
        bias = weight_of_evidence_curvature(reference, change, *size) * variance / (2 * draws)
        slope = weight_of_evidence_slope(reference, change, *size)
        found = weight_of_evidence(reference, change, *size) - bias
        return found, np.square(slope) * variance

    def linearised(
        self, reference: float, change: FloatArray, variance: FloatArray, at: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Evidence for a probability, linear in the draws, and its variance at a single draw.

        With f the weight of evidence as a function of the expectation, and m its value where the
        evidence is `at`: f(m) + f'(m) (mean over draws - m). A mean of it over windows has no bias
        from few draws, and no window that all draws left little of the class counts too much.

        Parameters
        ----------
        reference, change, variance
            See `of_draws`.
        at : float64 array (...)
            Approximate evidence.

        Returns
        -------
        evidence, variance : float64 arrays (...)
        """
        size = (self.training_size, self.classes)
        expected = change_of_evidence(reference, at, *size)
        slope = weight_of_evidence_slope(reference, expected, *size)
        found = weight_of_evidence(reference, expected, *size) + slope * (change - expected)
        return found, np.square(slope) * variance

    def of_shift(
        self,
        target: Target,
        reference: float,
        shift: FloatArray,
        variance: FloatArray,
        at: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Change of the evidence with a shift of the expectation, and its variance at a draw.

        It is linear in the shift, as `linearised` is: their sum is the evidence of the sum.

        Parameters
        ----------
        target, reference
            See `of_draws`.
        shift, variance : float64 arrays (...)
            Mean and variance over draws.
        at : float64 array (...)
            Approximate evidence.

        Returns
        -------
        evidence, variance : float64 arrays (...)
        """
        if target.has_linear_evidence:
            return activation_difference(shift), np.asarray(variance)
        size = (self.training_size, self.classes)
        expected = change_of_evidence(reference, at, *size)
        slope = weight_of_evidence_slope(reference, expected, *size)
        return slope * shift, np.square(slope) * variance

    def matched(
        self, target: Target, reference: float, change: FloatArray, wanted: float
    ) -> FloatArray:
        """Shift single draws so that the target takes another value for the intact item.

        The log-odds of a probability, after Laplace correction, are shifted, so that a draw changes
        them as before; other nodes are shifted themselves.

        Parameters
        ----------
        target : Target
        reference : float
            Value z of the target for the intact item.
        change : float64 array (...)
            Values of z for single draws, less the reference.
        wanted : float
            Value that the target is to take for the intact item.

        Returns
        -------
        float64 array (...)
            Values of z for the draws, less `wanted`.
        """
        if target.has_linear_evidence:
            return change
        size = (self.training_size, self.classes)
        scale = self.training_size / (self.training_size + self.classes)
        p, wanted_p = (laplace_correction(value, *size) for value in (reference, wanted))
        step = change * scale
        ratio = wanted_p / (1 - wanted_p) / (p / (1 - p)) - 1
        return np.asarray((ratio + 1) * step / (1 + ratio * (p + step)) / (1 + ratio * p) / scale)

    def _of_target(
        self, target: Target, windows: Windows, reference: Any, change: Any, variance: Any
    ) -> tuple[FloatArray, FloatArray]:
        exact = self.samples is None
        error = np.zeros_like(variance) if exact else np.sqrt(variance / self.samples)
        if target.kind == "probability":
            size = (self.training_size, self.classes)
            evidence = weight_of_evidence(reference, change, *size)
            error *= np.abs(weight_of_evidence_slope(reference, change, *size))
        else:
            evidence = activation_difference(change)
        return relevance(evidence, windows), standard_error(error, windows)
