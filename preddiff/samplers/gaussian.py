"""The patch Gaussian: streamed moments, shrinkage, conditioning of a window on its surroundings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.windows import FloatArray, IntArray, inside, offsets


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of vectors, which can be merged (Chan, Golub, LeVeque 1983).

    Attributes
    ----------
    count : float
        Number n of vectors (a real number, so that prior knowledge can weigh in as vectors).
    mean : float64 array (p,)
    scatter : float64 array (p, p)
        Sum of the outer products of the deviations from the mean: n times the covariance.
    """

    count: float
    mean: FloatArray
    scatter: FloatArray

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> "Moments":
        """Moments of the rows of an array (n, p), computed in float64."""
        vectors = np.asarray(vectors, dtype=np.float64)
        mean = vectors.mean(axis=0)
        deviations = vectors - mean
        return cls(len(vectors), mean, deviations.T @ deviations)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of vectors together."""
        count = self.count + other.count
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.count / count)
        between = np.outer(gap, gap) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def without_covariance_between(self, groups: IntArray) -> "Moments":
        """Drop the covariance between voxels of different groups, given by each voxel's number."""
        same = groups[:, None] == groups
        return replace(self, scatter=np.where(same, self.scatter, 0.0))

    @property
    def covariance(self) -> FloatArray:
        """Maximum-likelihood covariance, shape (p, p)."""
        return self.scatter / self.count


def oracle_approximating_shrinkage(
    covariance: FloatArray, count: float, channels: int = 1
) -> float:
    """Share of the scaled identity that makes a sample covariance well conditioned.

    The OAS estimator of Chen, Wiesel, Eldar, Hero (2010), "Shrinkage algorithms for MMSE
    covariance estimation", IEEE Trans. Signal Processing 58, eq. 23, as in scikit-learn. It needs
    the covariance alone, so that it works on streamed moments. It takes the vectors for
    independent; overlapping patches are not, so it shrinks less than their number suggests.

    Parameters
    ----------
    covariance : float64 array (p, p)
    count : float
        Number of vectors behind the covariance.
    channels : int
        Channels of the vectors, in C order. The share does not depend on their units: each counts
        in its own standard deviation.

    Returns
    -------
    float
        rho in [0, 1], for `shrink`.
    """
    p = len(covariance)
    if channels > 1:
        size = p // channels
        deviations = np.repeat(np.sqrt(traces(covariance, channels) / size), size)
        covariance = covariance / np.outer(deviations, deviations)
    square = np.mean(np.square(covariance))
    variance = np.trace(covariance) / p
    numerator = square + variance**2
    denominator = (count + 1) * (square - variance**2 / p)
    return 1.0 if denominator <= 0 else float(min(numerator / denominator, 1.0))


def traces(covariance: FloatArray, channels: int) -> FloatArray:
    """Summed variance of the voxels of each channel (channels,); of constant ones, the mean."""
    size = len(covariance) // channels
    parts = [slice(c * size, (c + 1) * size) for c in range(channels)]
    found = np.array([np.trace(covariance[part, part]) for part in parts])
    return np.where(found > 0, found, found.mean())


def shrink(covariance: FloatArray, rho: float, channels: int = 1) -> FloatArray:
    """(1 - rho) S + rho D, with D the diagonal of the mean variance of each voxel's channel.

    Of one channel, D is tr(S)/p I. Channels can have units of their own, so that the variance of
    one says nothing about another.
    """
    p = len(covariance)
    shrunk = (1 - rho) * covariance
    size = p // channels
    shrunk[np.diag_indices(p)] += np.repeat(rho * traces(covariance, channels) / size, size)
    return shrunk


@dataclass(frozen=True)
class ConditionalDistribution:
    """Distribution of a window given its surroundings: N(weights x_out + offset, covariance).

    Attributes
    ----------
    inside : bool array (p,)
        The window among the voxels of the outer patch; the others are the surroundings.
    weights : float64 array (m, p - m)
    offset : float64 array (m,)
    covariance : float64 array (m, m)
    """

    inside: NDArray[np.bool_]
    weights: FloatArray
    offset: FloatArray
    covariance: FloatArray

    @property
    def factor(self) -> FloatArray:
        """Lower triangular L with L L^T = covariance, shape (m, m).

        Raises
        ------
        InputError
            If the covariance is singular.
        """
        return _cholesky(self.covariance)


def condition(
    mean: FloatArray, covariance: FloatArray, inside: NDArray[np.bool_]
) -> ConditionalDistribution:
    """Condition a Gaussian over an outer patch on the surroundings of the window.

    Parameters
    ----------
    mean : float64 array (p,)
    covariance : float64 array (p, p)
    inside : bool array (p,)
        The window's voxels. Without any surroundings (l = k) the Gaussian itself comes back.

    Raises
    ------
    InputError
        If the covariance of the surroundings is singular.
    """
    from scipy import linalg

    out = ~inside
    within, between = covariance[np.ix_(inside, inside)], covariance[np.ix_(out, inside)]
    if not out.any():
        return ConditionalDistribution(inside, between.T, mean[inside], within)
    factor = _cholesky(covariance[np.ix_(out, out)])
    weights = linalg.cho_solve((factor, True), between, check_finite=False).T
    conditioned = within - weights @ between
    return ConditionalDistribution(
        inside, weights, mean[inside] - weights @ mean[out], (conditioned + conditioned.T) / 2
    )


def _cholesky(covariance: FloatArray) -> FloatArray:
    from scipy import linalg

    try:
        return linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        raise InputError(
            "the patch Gaussian's covariance is singular: fit it on more or more varied patches, "
            "or with shrinkage above 0"
        ) from None


class Gaussian(Protocol):
    """What samplers and the linear engine ask of a patch Gaussian, global or by location."""

    @property
    def l(self) -> int:
        """Side of the outer patch."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the patch."""
        ...

    def cells(self, starts: IntArray) -> IntArray:
        """Which Gaussian holds for outer patches that start at `starts` (n, d): ids (n,)."""
        ...

    def conditional(self, cell: int, k: int, position: tuple[int, ...]) -> ConditionalDistribution:
        """Condition a cell's Gaussian on all but the window at `position` in the outer patch."""
        ...


@dataclass(frozen=True)
class PatchGaussian:
    """One Gaussian for the outer patches of all places, joint over channels.

    Attributes
    ----------
    mean : float64 array (p,)
        p = channels * l**d, in C order of (channel, *patch).
    covariance : float64 array (p, p)
        Shrunk, positive definite.
    l : int
        Side of the outer patch.
    channels : int
    patches : int
        Number of patches it was fitted on.
    shrinkage : float
        Share of the diagonal in the covariance; see `shrink`.
    """

    mean: FloatArray
    covariance: FloatArray
    l: int
    channels: int
    patches: int
    shrinkage: float

    @classmethod
    def from_moments(
        cls,
        moments: Moments,
        l: int,
        channels: int = 1,
        shrinkage: float | None = None,
        independent_channels: bool = False,
    ) -> "PatchGaussian":
        """Shrink streamed moments to a Gaussian; by the OAS estimator unless told how much.

        With `independent_channels` the covariance between channels is dropped: conditioning it is
        then the same as conditioning one Gaussian for each channel.

        Raises
        ------
        InputError
            If all patches are the same, so that there is nothing to learn.
        """
        if independent_channels:
            channel = np.repeat(np.arange(channels), len(moments.mean) // channels)
            moments = moments.without_covariance_between(channel)
        covariance = moments.covariance
        if not np.trace(covariance) > 0:
            raise InputError(
                "all patches that the Gaussian was fitted on are the same constant: "
                "are the training items empty?"
            )
        if shrinkage is None:
            shrinkage = oracle_approximating_shrinkage(covariance, moments.count, channels)
        shrunk = shrink(covariance, shrinkage, channels)
        return cls(moments.mean, shrunk, l, channels, int(moments.count), shrinkage)

    @classmethod
    def fit(
        cls,
        items: NDArray[np.floating],
        l: int,
        *,
        patches: int = 100_000,
        shrinkage: float | None = None,
        seed: int = 0,
    ) -> "PatchGaussian":
        """Fit to patches drawn at random from images or volumes.

        Parameters
        ----------
        items : array (n, channels, *space)
            Images (n, C, H, W) or volumes (n, C, X, Y, Z).
        l : int
            Side of the outer patch.
        patches : int
            Number of patches, spread evenly over the items.
        shrinkage : float, optional
            Share of the scaled identity; by default the OAS estimator's.
        seed : int
            Seed of the places.

        Returns
        -------
        PatchGaussian
        """
        items = np.asarray(items)
        if items.ndim not in (4, 5):
            raise InputError(
                f"items of shape {items.shape}: give images as (n, channels, height, width) or "
                "volumes as (n, channels, x, y, z)"
            )
        each = -(-patches // len(items))
        moments = merge_all(
            Moments.of(draw_patches(item, l, each, np.random.default_rng((seed, number))))
            for number, item in enumerate(items)
        )
        return cls.from_moments(moments, l, items.shape[1], shrinkage)

    def cells(self, starts: IntArray) -> IntArray:
        """One Gaussian holds everywhere: zeros (n,)."""
        return np.zeros(len(starts), dtype=np.int64)

    def conditional(self, cell: int, k: int, position: tuple[int, ...]) -> ConditionalDistribution:
        """Condition on all but the window of side `k` at `position` in the outer patch."""
        return condition(self.mean, self.covariance, inside(k, self.l, position, self.channels))


def merge_all(moments: Iterable[Moments]) -> Moments:
    """Merge moments from first to last."""
    return reduce(Moments.merge, moments)


def draw_patches(
    item: NDArray[np.floating],
    l: int,
    count: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Patches of side `l` at `count` uniformly random places of an item.

    Parameters
    ----------
    item : array (channels, *space)

    Returns
    -------
    float64 array (count, channels * l**d)

    Raises
    ------
    InputError
        If the patch does not fit into the item.
    """
    space = item.shape[1:]
    if l > min(space):
        raise InputError(
            f"surroundings of side l = {l} do not fit into items of {tuple(space)} voxels"
        )
    starts = np.stack([generator.integers(0, n - l + 1, count) for n in space], axis=1)
    return patches_at(item, l, starts)


def patches_at(item: NDArray[np.floating], l: int, starts: IntArray) -> FloatArray:
    """Patches of side `l` of an item (channels, *space) that start at `starts` (n, d).

    Returns
    -------
    float64 array (n, channels * l**d), in C order of (channel, *patch).
    """
    channels, *space = item.shape
    first = np.ravel_multi_index(tuple(starts.T), tuple(space))
    index = first[:, None] + offsets(l, tuple(space), channels)
    return item.reshape(-1)[index].astype(np.float64, copy=False)


@dataclass(frozen=True)
class Grid:
    """A grid of cells over a volume, each with a Gaussian of its own.

    Attributes
    ----------
    space : tuple of int
        Voxels of the volume along each axis.
    cells : tuple of int
        Cells along each axis.
    """

    space: tuple[int, ...]
    cells: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse a grid that is finer than the voxels."""
        fits = len(self.cells) == len(self.space) and all(
            1 <= c <= n for c, n in zip(self.cells, self.space, strict=False)
        )
        if not fits:
            raise InputError(
                f"a grid of {self.cells} cells does not fit volumes of {self.space} voxels: "
                "give one number of cells for each axis, no more than the axis has voxels"
            )

    def cell_of(self, voxels: IntArray) -> IntArray:
        """Cells that voxels (n, d) lie in, as flat ids (n,)."""
        index = voxels * np.array(self.cells) // np.array(self.space)
        return np.ravel_multi_index(tuple(index.T), self.cells).astype(np.int64)


@dataclass(frozen=True)
class LocatedPatchGaussian:
    """A Gaussian for each cell of a grid, for items that are aligned as brains in a template.

    A patch belongs to the cell that its centre lies in.

    Attributes
    ----------
    grid : Grid
    fitted : mapping of int to (mean, covariance)
        By flat cell id; may read from a store, one cell at a time.
    l, channels : int
    corner : tuple of int
        Where the explained input starts in the volume of the grid.
    """

    grid: Grid
    fitted: Mapping[int, tuple[FloatArray, FloatArray]]
    l: int
    channels: int
    corner: tuple[int, ...]

    def at(self, corner: tuple[int, ...]) -> "LocatedPatchGaussian":
        """Return the same Gaussians for an input that starts at `corner` of the volume."""
        return replace(self, corner=corner)

    def cells(self, starts: IntArray) -> IntArray:
        """Cells of the outer patches that start at `starts` (n, d) of the input."""
        return self.grid.cell_of(starts + np.array(self.corner) + self.l // 2)

    def conditional(self, cell: int, k: int, position: tuple[int, ...]) -> ConditionalDistribution:
        """Condition a cell's Gaussian on all but the window at `position` in the outer patch.

        Raises
        ------
        InputError
            If the cell was not fitted.
        """
        try:
            mean, covariance = self.fitted[cell]
        except KeyError:
            raise InputError(
                f"the Gaussian by location was not fitted in cell {cell}: fit it for this "
                "classifier's slab"
            ) from None
        return condition(mean, covariance, inside(k, self.l, position, self.channels))


def located_moments(moments: Moments, everywhere: PatchGaussian, strength: float) -> Moments:
    """Shrink a cell's moments toward the global Gaussian, as if it had added patches.

    The posterior mean of a Gaussian under a conjugate (normal inverse Wishart) prior that weighs
    as much as `strength` patches: a cell with few patches falls back to the global Gaussian.

    Parameters
    ----------
    moments : Moments
        Of the cell's patches; its count may be 0.
    everywhere : PatchGaussian
    strength : float
        Number of patches that the global Gaussian counts for.
    """
    prior = Moments(strength, everywhere.mean, everywhere.covariance * strength)
    return prior.merge(moments) if moments.count else prior
