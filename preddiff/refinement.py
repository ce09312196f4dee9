"""Refinement: which windows are drawn next, and how exact the map is that all of them give.

The estimand is the relevance of all windows at stride 1 with draws without end. Windows are chosen
level by level, each of which has about a third more forward passes than those before together. The
evidence of all windows is predicted by kriging (`preddiff.kriging`) from those that were drawn.
What is drawn at a level depends on the levels before and on nothing else, in particular not on the
accuracy that is asked for: it only says after which level to stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.evidence import Evidence, Expectations, relevance
from preddiff.kriging import Correlation, Kriging, LatticeErrors, lattice_errors, smoothed
from preddiff.targets import Target
from preddiff.windows import FloatArray, IntArray, Selection, Windows

# Of the evidence of windows of photographs, with two networks: length of the correlation in sides
# of a window, and share of the variance that neighbours do not share.
_LENGTH, _NUGGET = 1.0, 0.02
# Distances of the windows of the first two levels, in sides of a window.
_FIRST, _SECOND = 1.6, 0.5
_GROWTH = 1.35
# Standard deviation of the weights that local averages are taken with, in sides of a window, and
# weight of the average over the whole grid.
_WIDTH, _TRUST = 0.6, 0.02
# Local variance of the evidence is at least this share of its mean.
_LEAST_VARIANCE = 0.01
# Windows of the first level at least, and draws per window at most.
_FEWEST = 200
_MOST_PASSES = 10**6
# Evidence and maps that are smaller than this are zero but for rounding.
_TINY = 1e-12
# Draws per window among which the next level chooses, in units of the second level's.
_DENSITIES = np.geomspace(1, 1e6, 80)


def ranks(shape: tuple[int, ...]) -> FloatArray:
    """Number the windows of a grid so that those below any number are spread evenly.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    float64 array (*shape)
        In [0, 1): about a share d of all are below d. They form nested lattices, which are never in
        step with a network's strides, since their steps are irrational: the additive recurrence R_d
        of M. Roberts (2018), which generalises the golden ratio.
    """
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (len(shape) + 1))
    steps = [ratio ** -(axis + 1) for axis in range(len(shape))]
    along = np.indices(shape, sparse=True)
    total = sum((step * index for step, index in zip(steps, along, strict=True)), np.float64(0.5))
    return np.asarray(total % 1.0)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is known of the windows of an item.

    Attributes
    ----------
    reference : float64 array (targets,)
    draws : int64 array (*windows.shape)
        Draws of each window; 0 if it was not drawn, so that its evidence is interpolated.
    change, variance : float64 arrays (targets, *windows.shape)
        Mean over draws, less the reference, and variance over draws; 0 without draws.
    """

    reference: FloatArray
    draws: IntArray
    change: FloatArray
    variance: FloatArray

    @classmethod
    def nothing(cls, windows: Windows, targets: int) -> "Drawn":
        """Nothing is known yet."""
        shape = (targets, *windows.shape)
        return cls(
            np.zeros(targets), np.zeros(windows.shape, np.int64), np.zeros(shape), np.zeros(shape)
        )

    def with_level(self, level: "Drawn") -> "Drawn":
        """Add the draws of a level (Chan, Golub and LeVeque, 1983)."""
        before, new = self.draws, level.draws
        total = np.maximum(before + new, 1)
        step = level.change - self.change
        squares = self.variance * np.maximum(before - 1, 0) + level.variance * np.maximum(
            new - 1, 0
        )
        squares += np.square(step) * (before * new / total)
        return Drawn(
            level.reference,
            before + new,
            self.change + step * (new / total),
            squares / np.maximum(total - 1, 1),
        )

    @property
    def passes(self) -> int:
        """Forward passes that were made."""
        return int(self.draws.sum())


def level_of(windows: Windows, chosen: Selection, samples: int, found: Expectations) -> Drawn:
    """Collect the draws of a level.

    Parameters
    ----------
    windows : Windows
    chosen : Selection
        Windows; one that is to have more draws is in it several times.
    samples : int
        Draws of each of its entries.
    found : Expectations
        Of one item and these windows.

    Returns
    -------
    Drawn
        Rounded to float32, as it is stored, so that it does not matter whether it was.
    """
    place = np.ravel_multi_index(tuple(chosen.index.T), windows.shape)
    count = prod(windows.shape)
    entries = np.maximum(np.bincount(place, minlength=count), 1)

    def mean(values: FloatArray) -> FloatArray:
        rows = [np.bincount(place, row, minlength=count) / entries for row in values]
        return np.stack(rows)

    change = mean(found.change[0])
    between = mean(np.square(found.change[0] - change[:, place])) * entries * samples
    within = mean(found.variance[0]) * entries * (samples - 1)
    draws = np.bincount(place, minlength=count) * samples
    shape = (-1, *windows.shape)
    return Drawn(
        _as_stored(found.reference[0]),
        draws.reshape(windows.shape),
        _as_stored(change).reshape(shape),
        _as_stored((between + within) / np.maximum(draws - 1, 1)).reshape(shape),
    )


def _as_stored(values: FloatArray) -> FloatArray:
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Field:
    """Evidence of one target as a random field.

    Attributes
    ----------
    values : float64 array (*windows.shape)
        Evidence of the windows that were drawn.
    amplitude, noise : float64 arrays (*windows.shape)
        Standard deviation of the evidence, and variance of a single draw.
    """

    values: FloatArray
    amplitude: FloatArray
    noise: FloatArray

    def observed(self, observed: NDArray[np.bool_], draws: IntArray) -> tuple[Any, ...]:
        """Arguments of `Kriging.predict`."""
        return self.values, observed, self.amplitude, self.noise / draws


@dataclass(frozen=True, eq=False)
class Estimate:
    """Maps of an item after a level.

    Attributes
    ----------
    evidence : float64 array (targets, *windows.shape)
        Predicted for all windows.
    relevance, stderr, error : float64 arrays (targets, *space)
        `stderr` is the error that draws cause; `error` contains that of interpolation too.
    reached : float64 array (targets,)
        Root mean square of `error` over the input, as a share of the map's largest magnitude.
    fields : tuple of Field
        What is known of each target's evidence, for the choice of the next level.
    """

    evidence: FloatArray
    relevance: FloatArray
    stderr: FloatArray
    error: FloatArray
    reached: FloatArray
    fields: tuple[Field, ...]


class Refinement:
    """How the maps of an item are refined.

    Parameters
    ----------
    windows : Windows
        At stride 1.
    targets : sequence of Target
    evidence : Evidence
    random : bool
        Whether draws of the sampler differ; if not, one is made per window.
    """

    def __init__(
        self, windows: Windows, targets: Sequence[Target], evidence: Evidence, random: bool = True
    ) -> None:
        self.windows = windows
        self.targets = tuple(targets)
        self.evidence = evidence
        self.samples = 2 if random else 1
        self._random = random
        self._ranks = ranks(windows.shape)
        self._correlation = Correlation(_LENGTH * windows.k, _NUGGET)
        self._kriging = Kriging(windows.shape, self._correlation)

    @property
    def _errors(self) -> LatticeErrors:
        return lattice_errors(self._correlation, self.windows.k, len(self.windows.space))

    def first(self) -> Selection:
        """Windows of the first level."""
        return self._selection(0, np.where(self._ranks < self._share(_FIRST), 1, 0))

    def next(self, level: int, drawn: Drawn, estimate: Estimate) -> Selection:
        """Choose the windows of a level so that, for its passes, the error becomes least.

        Parameters
        ----------
        level : int
            From 1.
        drawn, estimate : Drawn, Estimate
            Of all levels before.

        Returns
        -------
        Selection
            Empty if nothing is left to draw.
        """
        had = drawn.draws // self.samples
        least = np.where(self._ranks < self._share(_SECOND), 1, 0)
        if (least > had).any():
            return self._selection(level, np.maximum(least - had, 0))
        passes = drawn.passes
        while True:
            passes = ceil(_GROWTH * passes)
            density = self._densities(drawn, estimate, passes)
            wanted = np.floor(density / self.samples + 1 - self._ranks).astype(np.int64)
            if not self._random:
                wanted = np.minimum(wanted, 1)
            missing = np.maximum(wanted - had, 0)
            if missing.any() or passes > _MOST_PASSES * prod(self.windows.shape):
                return self._selection(level, missing)

    def _share(self, distance: float) -> float:
        """Share of the windows of a lattice with some distance, in sides of a window."""
        share = max(1.0, distance * self.windows.k) ** -len(self.windows.space)
        return min(1.0, max(share, _FEWEST / prod(self.windows.shape)))

    def _selection(self, level: int, entries: IntArray) -> Selection:
        index = np.argwhere(entries > 0)
        return Selection(level, np.repeat(index, entries[entries > 0], axis=0))

    def is_reached(self, drawn: Drawn, estimate: Estimate, accuracy: float) -> bool:
        """Whether the maps of all targets are as exact as wanted.

        The first two levels are spread evenly, too far from each other where the evidence is
        concentrated. One more level at least is drawn where they found it.
        """
        spread = int((self._ranks < self._share(_SECOND)).sum()) * self.samples
        return bool(drawn.passes > spread and (estimate.reached <= accuracy).all())

    def estimate(self, drawn: Drawn) -> Estimate:
        """Predict the evidence of all windows, and the error of the maps, from all levels."""
        density, per_window = self._density(drawn)
        found: list[tuple[FloatArray, ...]] = []
        fields = []
        for row, target in enumerate(self.targets):
            field, predicted = self._predicted(drawn, row, target)
            power = np.square(field.amplitude)
            local = (density, field.noise / per_window / power)
            variance = power * self._errors.of_values(*local)
            error = self._of_voxels(power * self._errors.of_means(*local), variance)
            from_noise = np.where(field.noise > 0, self._errors.of_means_from_noise(*local), 0.0)
            stderr = self._of_voxels(power * from_noise, variance)
            found.append((predicted, relevance(predicted, self.windows), stderr, error))
            fields.append(field)
        evidence, maps, stderrs, errors = (np.stack(values) for values in zip(*found, strict=True))
        reached = _share_of_largest(errors, maps)
        return Estimate(evidence, maps, stderrs, errors, reached, tuple(fields))

    def _density(self, drawn: Drawn) -> tuple[FloatArray, FloatArray]:
        """Share of windows that are drawn around each window, and draws of each of these."""
        width = _WIDTH * self.windows.k
        everywhere = np.ones(self.windows.shape, dtype=bool)
        observed = (drawn.draws > 0).astype(np.float64)
        density = smoothed(observed, everywhere, width, _TRUST)
        draws = smoothed(drawn.draws.astype(np.float64), everywhere, width, _TRUST)
        return np.clip(density, 1e-9, 1), draws / density

    def _predicted(self, drawn: Drawn, row: int, target: Target) -> tuple[Field, FloatArray]:
        """Evidence of one target as a random field, and what kriging predicts of it.

        Evidence is not linear in the draws. A first prediction, from the evidence of each window
        by itself, tells where to linearise it for the second.
        """
        observed = drawn.draws > 0
        draws = np.maximum(drawn.draws, 1)
        found = float(drawn.reference[row]), drawn.change[row], drawn.variance[row]
        field = self._field(observed, draws, *self.evidence.of_draws(target, *found, draws))
        if target.kind == "probability":
            first = self._kriging.predict(*field.observed(observed, draws))
            field = self._field(observed, draws, *self.evidence.linearised(target, *found, first))
        return field, self._kriging.predict(*field.observed(observed, draws))

    def _field(
        self, observed: NDArray[np.bool_], draws: IntArray, values: FloatArray, noise: FloatArray
    ) -> Field:
        width = _WIDTH * self.windows.k
        noise = smoothed(noise, observed, width, _TRUST)
        power = np.where(observed, np.square(values) - noise / draws, 0.0)
        # Where there is more noise than evidence, differences may be negative.
        overall = max(power.sum() / observed.sum(), _TINY**2)
        local = np.maximum(smoothed(power, observed, width, _TRUST), _LEAST_VARIANCE * overall)
        return Field(values, np.sqrt(local), noise)

    def _of_voxels(self, of_means: FloatArray, of_values: FloatArray) -> FloatArray:
        """Standard deviation of voxels' errors, given variances of windows' errors.

        Inside, a voxel is in k^d windows. At the border it is in few: there, the error is as if
        these were independent, but not more than that of a single window.
        """
        windows = self.windows
        size = windows.k ** len(windows.space)
        independent = windows.sum_over_windows(size * of_means) / np.square(windows.counts)
        return np.sqrt(np.minimum(independent, relevance(of_values, windows)))

    @cached_property
    def _border_weights(self) -> FloatArray:
        """What an error of each window does to the map, relative to one in the interior."""
        windows = self.windows
        size = windows.k ** len(windows.space)
        return size * windows.sum_in_windows(1 / np.square(windows.counts))

    def _densities(self, drawn: Drawn, estimate: Estimate, passes: int) -> FloatArray:
        """Draws per window, as a density, with the least error for a number of passes.

        At the optimum, one more draw lowers the summed variance by the same everywhere. Fields
        change slowly, so it is computed on a part of the grid.
        """
        step = max(1, self.windows.k // 4)
        part = tuple(
            slice(step // 2 if n > step // 2 else 0, None, step) for n in drawn.draws.shape
        )
        choices = self._share(_SECOND) * self.samples * _DENSITIES
        variances = np.zeros((len(choices), *drawn.draws[part].shape))
        for row, field in enumerate(estimate.fields):
            largest = max(float(np.abs(estimate.relevance[row]).max()), _TINY)
            power = np.square(field.amplitude[part])
            weight = power * self._border_weights[part] / largest**2
            for number, draws in enumerate(choices):
                density = np.full(power.shape, min(1.0, draws / self.samples))
                ratio = field.noise[part] / max(self.samples, draws) / power
                variances[number] += weight * self._errors.of_means(density, ratio)
        steps = np.diff(choices).reshape(-1, *[1] * drawn.draws.ndim)
        gains = np.minimum.accumulate(-np.diff(variances, axis=0) / steps, axis=0)
        density, per_window = self._density(drawn)
        had = (density * per_window)[part]
        scale = drawn.draws.size / had.size
        low, high = 0, gains.size
        ordered = np.sort(gains, axis=None)
        while high - low > 1:
            middle = (low + high) // 2
            wanted = choices[(gains >= ordered[middle]).sum(axis=0)]
            if np.maximum(wanted, had).sum() * scale > passes:
                low = middle
            else:
                high = middle
        wanted = choices[(gains >= ordered[min(high, gains.size - 1)]).sum(axis=0)]
        for axis, length in enumerate(drawn.draws.shape):
            places = np.minimum(np.arange(length) // step, wanted.shape[axis] - 1)
            wanted = wanted.take(places, axis)
        return wanted


def passes_left(drawn: Drawn, estimate: Estimate, accuracy: float) -> int:
    """Forward passes that an accuracy is expected to take from here on.

    The error falls about as one over the root of their number.
    """
    factor = float(np.square(np.minimum(estimate.reached.max(), 1) / accuracy))
    return max(1, ceil((factor - 1) * drawn.passes))


def _share_of_largest(error: FloatArray, maps: FloatArray) -> FloatArray:
    """Root mean square error of each map, as a share of its largest magnitude."""
    axes = tuple(range(1, maps.ndim))
    rms = np.sqrt(np.square(error).mean(axis=axes))
    largest = np.abs(maps).max(axis=axes)
    unknown = np.where(rms > 10 * _TINY, np.inf, 0.0)
    return np.divide(rms, largest, out=unknown, where=largest > 10 * _TINY)
