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


def weight_of_evidence_slope(
    reference: ArrayLike, change: ArrayLike, training_size: float, classes: int
) -> FloatArray:
    """Derivative of the weight of evidence with respect to E[p], in bits; never positive."""
    scale = training_size / (training_size + classes)
    q = laplace_correction(np.asarray(reference) + np.asarray(change), training_size, classes)
    return -scale / (q * (1 - q) * np.log(2))


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
    float64 array (..., *windows.space)
    """
    return windows.sum_over_windows(evidence) / windows.counts


def standard_error(evidence_error: NDArray[np.floating], windows: Windows) -> FloatArray:
    """Standard error of relevance from those of the windows, whose draws are independent.

    Parameters
    ----------
    evidence_error : array (..., *windows.shape)
        Standard error of each window's evidence.

    Returns
    -------
    float64 array (..., *windows.space)
    """
    return np.sqrt(windows.sum_over_windows(np.square(evidence_error))) / windows.counts


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
