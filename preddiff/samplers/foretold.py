"""How much of a window its surroundings foretell, from the patch Gaussian alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.samplers.gaussian import (
    LocatedPatchGaussian,
    Moments,
    PatchGaussian,
    condition,
    oracle_approximating_shrinkage,
    traces,
)
from preddiff.windows import FloatArray, IntArray, Surroundings, Windows, inside

AnyGaussian: TypeAlias = PatchGaussian | LocatedPatchGaussian

# Conditional maps of windows that are foretold by more than this share show next to nothing.
TOO_MUCH = 0.99
# Number of cells of a Gaussian by location that stand for all: others would hardly change a share.
_CELLS = 32
# Relative difference by rounding of an estimate of shrinkage that is computed anew.
_SAME = 1e-6


@dataclass(frozen=True)
class Foretold:
    """The variance of a window, and what of it remains where its surroundings are known.

    The window is at the centre of its surroundings. At the borders of an input, where it is beside
    it, less is foretold.

    Attributes
    ----------
    k, l : int
        Sides of the window and of its surroundings.
    variance : float
        Mean variance of a voxel of the window, over voxels, channels and cells, in squared units
        of the items: tr(Cov[x_w]) / m.
    remaining : float
        The same given the surroundings: tr(Cov[x_w | x_out]) / m.
    cells : float64 array (cells,)
        Share of the variance that remains in each of the cells, of a Gaussian by location, that
        stand for all; of one element for one Gaussian for all locations.
    """

    k: int
    l: int
    variance: float
    remaining: float
    cells: FloatArray

    @property
    def share_remaining(self) -> float:
        """Share of the variance that the surroundings leave open, from 0 to 1.

        Computed as it is, rather than from the share that is foretold, so that shares far below
        the precision of 1 are right.
        """
        return self.remaining / self.variance

    @property
    def share(self) -> float:
        """Share of the variance that the surroundings foretell: 1 - `share_remaining`."""
        return 1 - self.share_remaining

    @property
    def warning(self) -> str:
        """What a user should know of maps of such windows; empty if there is something to see."""
        if self.share <= TOO_MUCH:
            return ""
        deviation = math.sqrt(self.share_remaining)
        return (
            f"the surroundings foretell {percent_of(self.share_remaining)} of the variance of a "
            f"window of side k = {self.k} (l = {self.l}): what is redrawn has only {deviation:.2g} "
            "of the standard deviation, and maps show next to nothing. Choose a larger k; "
            "`preddiff scales` lists the share by k"
        )


def percent_of(share_remaining: float) -> str:
    """Return the share that is foretold in percent, with digits that tell it from all."""
    digits = max(0, 1 - math.floor(math.log10(100 * share_remaining)))
    return f"{100 * (1 - share_remaining):.{digits}f}%"


def foretold(gaussian: AnyGaussian, k: int, l: int | None = None) -> Foretold:
    """Compute how much of a window of side `k` its surroundings foretell.

    The windows are those in the interior of an input. Of a Gaussian by location, cells that are
    spread evenly over all stand for all, and their variances are averaged.

    Parameters
    ----------
    gaussian : PatchGaussian or LocatedPatchGaussian
    k : int
        Side of the window.
    l : int, optional
        Side of the surroundings; by default, and at most, that of the Gaussian's outer patches.

    Returns
    -------
    Foretold

    Raises
    ------
    InputError
        If the window cannot be at the centre of the surroundings, these are larger than the outer
        patches, or the covariance is singular.
    """
    l = gaussian.l if l is None else l
    if l > gaussian.l:
        raise InputError(
            f"k = {k} in surroundings of side l = {l}: the Gaussian was fitted for l = {gaussian.l}"
        )
    Surroundings(Windows((max(k, l),), k), l)
    dimensions = _dimensions(gaussian)
    window = inside(k, l, ((l - k) // 2,) * dimensions, gaussian.channels)
    parts = np.array([_traces(one, window) for one in _covariances(gaussian, l)])
    # Less than rounding cannot be told from nothing.
    parts[:, 1] = np.maximum(parts[:, 1], np.finfo(np.float64).eps * parts[:, 0])
    variance, remaining = parts.mean(axis=0) / window.sum()
    return Foretold(k, l, float(variance), float(remaining), parts[:, 1] / parts[:, 0])


def centre_of(gaussian: PatchGaussian, l: int) -> PatchGaussian:
    """Return the Gaussian of the centres, of side `l`, of the patches that one was fitted on.

    It is the one that would have been fitted on these: the covariance before shrinkage is known
    from that after it, and is shrunk anew, by the OAS estimator if the other one was.
    """
    if l == gaussian.l:
        return gaussian
    p, rho, count = len(gaussian.mean), gaussian.shrinkage, float(gaussian.patches)
    part = _centre(gaussian, l)
    covariance = gaussian.covariance
    shrinkage: float | None = rho
    if 0 < rho < 1:
        # Shrinkage keeps the traces.
        size = p // gaussian.channels
        added = rho * traces(covariance, gaussian.channels) / size
        covariance = covariance - np.diag(np.repeat(added, size))
        covariance /= 1 - rho
        estimated = oracle_approximating_shrinkage(covariance, count, gaussian.channels)
        shrinkage = None if math.isclose(estimated, rho, rel_tol=_SAME) else rho
    moments = Moments(count, gaussian.mean[part], covariance[np.ix_(part, part)] * count)
    return PatchGaussian.from_moments(moments, l, gaussian.channels, shrinkage)


def _covariances(gaussian: AnyGaussian, l: int) -> Iterator[FloatArray]:
    """Yield covariances of outer patches of side `l`, in the cells that stand for all."""
    if isinstance(gaussian, PatchGaussian):
        yield centre_of(gaussian, l).covariance
        return
    part = _centre(gaussian, l)
    cells = list(gaussian.fitted)
    for number in np.unique(np.linspace(0, len(cells) - 1, _CELLS).round().astype(int)):
        yield gaussian.fitted[cells[number]][1][np.ix_(part, part)]


def _traces(covariance: FloatArray, window: NDArray[np.bool_]) -> tuple[float, float]:
    """Trace of a window's covariance, and of that given the surroundings."""
    given = condition(np.zeros(len(covariance)), covariance, window)
    return float(np.diag(covariance)[window].sum()), float(np.trace(given.covariance))


def _centre(gaussian: AnyGaussian, l: int) -> IntArray:
    """Voxels of the patch of side `l` at the centre of the Gaussian's outer patch."""
    position = ((gaussian.l - l) // 2,) * _dimensions(gaussian)
    return np.flatnonzero(inside(l, gaussian.l, position, gaussian.channels))


def _dimensions(gaussian: AnyGaussian) -> int:
    """Spatial axes of a patch. Where their number makes no difference (l = 1), it is one."""
    if isinstance(gaussian, LocatedPatchGaussian):
        return len(gaussian.grid.space)
    voxels = len(gaussian.mean) // gaussian.channels
    return round(math.log(voxels, gaussian.l)) if gaussian.l > 1 else 1
