"""Kriging: the best linear prediction of a field on a grid from noisy values at some of its points.

The field is taken as a(w) g(w), a local amplitude times a stationary field g of mean 0 and variance
1. Its correlation is that of Matérn (smoothness 3/2), of which a small share is a nugget: variation
from one window to the next that nothing foretells.

M. L. Stein, "Interpolation of spatial data", Springer 1999, has the theory: the predictor in
section 1.2, and in section 3.2 the spectrum of its error for values on a lattice.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from preddiff.windows import FloatArray

# Of the prediction's right-hand side: far less than the error of any prediction.
_TOLERANCE = 1e-3
_MOST_ITERATIONS = 200
# Points of the torus on which errors are tabulated, along each axis, and what they are tabulated
# for: spacings that divide it, and ratios of the noise's variance to the field's.
_TORUS = {1: 96, 2: 96, 3: 48}
_SPACINGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 48)
_RATIOS = np.logspace(-5, 5, 41)


@dataclass(frozen=True)
class Correlation:
    """Correlation of a field with itself at some distance.

    Attributes
    ----------
    length : float
        Of Matérn's correlation (1 + x) exp(-x), x = sqrt(3) distance / length; in grid steps.
    nugget : float
        Share of the variance that no neighbour shares.
    """

    length: float
    nugget: float

    def __call__(self, distance: FloatArray) -> FloatArray:
        """Correlation at some distances, in grid steps."""
        x = np.sqrt(3) * distance / self.length
        return np.where(distance == 0, 1.0, (1 - self.nugget) * (1 + x) * np.exp(-x))


def _on_torus(correlation: Correlation, shape: tuple[int, ...]) -> FloatArray:
    """Spectrum of a correlation on a torus, as `fft.rfftn` orders it."""
    squares = np.zeros(shape)
    for axis, length in enumerate(shape):
        along = np.minimum(np.arange(length), length - np.arange(length)).astype(np.float64)
        squares += np.square(along).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    # Wrapping a correlation around may leave small negative numbers.
    return np.maximum(fft.rfftn(correlation(np.sqrt(squares))).real, 0)


class Kriging:
    """Predicts fields on a grid.

    Parameters
    ----------
    shape : tuple of int
        Shape of the grid.
    correlation : Correlation
    """

    def __init__(self, shape: tuple[int, ...], correlation: Correlation) -> None:
        self.shape = shape
        # Room for the correlation to fade, so that opposite ends do not meet.
        room = int(np.ceil(6 * correlation.length))
        self._torus = tuple(fft.next_fast_len(n + room, real=True) for n in shape)
        self._spectrum = _on_torus(correlation, self._torus)

    def predict(
        self,
        values: FloatArray,
        observed: NDArray[np.bool_],
        amplitude: FloatArray,
        noise: FloatArray,
    ) -> FloatArray:
        """Predict the field everywhere.

        Parameters
        ----------
        values : float64 array (*shape)
            Field plus noise, where it was observed.
        observed : bool array (*shape)
        amplitude : float64 array (*shape)
            Standard deviation a of the field.
        noise : float64 array (*shape)
            Variance of the noise of each value.

        Returns
        -------
        float64 array (*shape)
            K_o (K_oo + N)^-1 y, by conjugate gradients, whose products with the covariance K are
            Fourier transforms.
        """
        weights = np.zeros(self.shape)
        residual = np.where(observed, values, 0.0)
        scale = np.where(observed, 1 / (np.square(amplitude) + noise), 0.0)
        limit = np.square(_TOLERANCE) * np.square(residual).sum()
        step = scale * residual
        energy = (residual * step).sum()
        for _ in range(_MOST_ITERATIONS):
            if np.square(residual).sum() <= limit:
                break
            image = np.where(observed, self._covariance(step, amplitude) + noise * step, 0.0)
            share = energy / (step * image).sum()
            weights += share * step
            residual -= share * image
            preconditioned = scale * residual
            before, energy = energy, (residual * preconditioned).sum()
            step = preconditioned + energy / before * step
        return self._covariance(weights, amplitude)

    def _covariance(self, values: FloatArray, amplitude: FloatArray) -> FloatArray:
        spectrum = fft.rfftn(amplitude * values, self._torus) * self._spectrum
        inside = tuple(slice(0, n) for n in self.shape)
        return amplitude * np.asarray(fft.irfftn(spectrum, self._torus))[inside]


@dataclass(frozen=True)
class LatticeErrors:
    """Variance of the error of kriging from a lattice, averaged over where the lattice lies.

    For a field of spectrum P, observed on a lattice of spacing s with noise of variance q, the
    error has the spectrum P - P^2 / (sum_j P(f + g_j) + q s^d), in which the g_j are the lattice's
    frequencies. Where the density of observations changes slowly, this is the local error.

    Attributes
    ----------
    correlation : Correlation
    k : int
        Side of the box that errors of means are for, in grid steps.
    dimensions : int
    """

    correlation: Correlation
    k: int
    dimensions: int

    def of_values(self, density: FloatArray, ratio: FloatArray) -> FloatArray:
        """Variance of the error of a predicted value, in units of the field's variance.

        Parameters
        ----------
        density : float64 array
            Observations per point of the grid, at most 1.
        ratio : float64 array
            Variance of the noise of an observation over that of the field.
        """
        return self._read(self._tables[0], density, ratio)

    def of_means(self, density: FloatArray, ratio: FloatArray) -> FloatArray:
        """Variance of the error of the mean of k^d predicted values; see `of_values`."""
        return self._read(self._tables[1], density, ratio)

    def of_means_from_noise(self, density: FloatArray, ratio: FloatArray) -> FloatArray:
        """The part of `of_means` that is due to noise."""
        return self._read(self._tables[2], density, ratio)

    @cached_property
    def _spacings(self) -> FloatArray:
        return np.array([s for s in _SPACINGS if _TORUS[self.dimensions] % s == 0], dtype=float)

    @cached_property
    def _tables(self) -> FloatArray:
        """Logarithms of the three variances, (3, spacings, ratios)."""
        side, d = _TORUS[self.dimensions], self.dimensions
        half = _on_torus(self.correlation, (side,) * d)
        spectrum = fft.fftn(fft.irfftn(half, (side,) * d)).real
        spectrum *= side**d / spectrum.sum()
        box = np.abs(fft.fft((np.arange(side) < self.k) / self.k)) ** 2
        mean = np.ones((side,) * d)
        for axis in range(d):
            mean = mean * box.reshape([-1 if a == axis else 1 for a in range(d)])
        found = np.empty((3, len(self._spacings), len(_RATIOS)))
        for row, spacing in enumerate(self._spacings.astype(int)):
            aliased = spectrum
            for axis in range(d):
                aliased = sum(np.split(aliased, spacing, axis))
            aliased = np.tile(aliased, (spacing,) * d)
            for column, ratio in enumerate(_RATIOS):
                noise = ratio * spacing**d
                weight = spectrum / (aliased + noise)
                error = spectrum * (1 - weight)
                found[:, row, column] = (
                    error.mean(),
                    (mean * error).mean(),
                    (mean * np.square(weight) * noise).mean(),
                )
        return np.log(found)

    def _read(self, table: FloatArray, density: FloatArray, ratio: FloatArray) -> FloatArray:
        spacing = np.clip(np.maximum(density, 1e-9) ** (-1 / self.dimensions), 1, None)
        row = _place(np.log(spacing), np.log(self._spacings))
        column = _place(np.log(np.maximum(ratio, _RATIOS[0])), np.log(_RATIOS))
        first = np.minimum(row.astype(int), table.shape[0] - 2)
        second = np.minimum(column.astype(int), table.shape[1] - 2)
        u, v = row - first, column - second
        upper = (1 - v) * table[first, second] + v * table[first, second + 1]
        lower = (1 - v) * table[first + 1, second] + v * table[first + 1, second + 1]
        return np.asarray(np.exp((1 - u) * upper + u * lower))


@lru_cache(maxsize=8)
def lattice_errors(correlation: Correlation, k: int, dimensions: int) -> LatticeErrors:
    """Return the errors of kriging, whose tables are made once."""
    return LatticeErrors(correlation, k, dimensions)


def _place(values: FloatArray, nodes: FloatArray) -> FloatArray:
    """Positions of values among nodes, as numbers of nodes with fractions."""
    return np.asarray(np.interp(values, nodes, np.arange(len(nodes), dtype=np.float64)))


def smoothed(
    values: FloatArray, observed: NDArray[np.bool_], width: float, trust: float
) -> FloatArray:
    """Average values over the observed points around each point of a grid.

    Parameters
    ----------
    values : float64 array (*shape)
    observed : bool array (*shape)
    width : float
        Standard deviation of the Gaussian weights, in grid steps.
    trust : float
        Weight of the mean over all observed points, as a share of the mean density of
        observations; it decides where none are near.

    Returns
    -------
    float64 array (*shape)
    """
    inside = observed.astype(np.float64)
    overall = (values * inside).sum() / inside.sum()
    weight = trust * inside.mean()
    sums = gaussian_filter(np.where(observed, values, 0.0), width, mode="constant")
    density = gaussian_filter(inside, width, mode="constant")
    return np.asarray((sums + weight * overall) / (density + weight))
