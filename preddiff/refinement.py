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

import numpy as np

from preddiff.evidence import Evidence, Expectations, relevance
from preddiff.kriging import Correlation, Kriging, lattice_errors, smoothed
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
# Windows of the first level at least.
_FEWEST = 200
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
        correlation = Correlation(_LENGTH * windows.k, _NUGGET)
        self._kriging = Kriging(windows.shape, correlation)
        self._errors = lattice_errors(correlation, windows.k, len(windows.space))

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
        if self._is_exhausted(drawn.passes):
            return self._selection(level, np.zeros_like(had))
        allotment = self._allotment(drawn, estimate)
        passes, missing = drawn.passes, np.zeros_like(had)
        # A level can be too small to hold a whole window.
        while not missing.any():
            passes = ceil(_GROWTH * passes)
            density = self._everywhere(allotment.densities(passes))
            wanted = np.floor(density / self.samples + 1 - self._ranks).astype(np.int64)
            if not self._random:
                wanted = np.minimum(wanted, 1)
            missing = np.maximum(wanted - had, 0)
        return self._selection(level, missing)

    def _share(self, distance: float) -> float:
        """Share of the windows of a lattice with some distance, in sides of a window."""
        share = max(1.0, distance * self.windows.k) ** -len(self.windows.space)
        return min(1.0, max(share, _FEWEST / prod(self.windows.shape)))

    def _selection(self, level: int, entries: IntArray) -> Selection:
        index = np.argwhere(entries > 0)
        return Selection(level, np.repeat(index, entries[entries > 0], axis=0))

    def is_reached(self, passes: int, reached: FloatArray, accuracy: float) -> bool:
        """Whether the maps of all targets are as exact as wanted after a level.

        The first two levels are spread evenly, too far from each other where the evidence is
        concentrated. One more level at least is drawn where they found it.

        Parameters
        ----------
        passes : int
            Forward passes of all levels so far (`Drawn.passes`).
        reached : float64 array (targets,)
            `Estimate.reached`.
        accuracy : float
        """
        spread = int((self._ranks < self._share(_SECOND)).sum()) * self.samples
        return bool((passes > spread or self._is_exhausted(passes)) and (reached <= accuracy).all())

    def _is_exhausted(self, passes: int) -> bool:
        """Whether more draws would tell nothing new: all windows have the only one there is."""
        return not self._random and passes == prod(self.windows.shape)

    def estimate(self, drawn: Drawn) -> Estimate:
        """Predict the evidence of all windows, and the error of the maps, from all levels."""
        if self._is_exhausted(drawn.passes):
            return self._exact(drawn)
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

    def _exact(self, drawn: Drawn) -> Estimate:
        """Maps of draws that do not differ, one of each window."""
        found = [
            self.evidence.of_draws(
                target,
                float(drawn.reference[row]),
                drawn.change[row],
                drawn.variance[row],
                drawn.draws,
            )
            for row, target in enumerate(self.targets)
        ]
        evidence = np.stack([values for values, _ in found])
        maps = relevance(evidence, self.windows)
        zeros = np.zeros_like(maps)
        return Estimate(evidence, maps, zeros, zeros, np.zeros(len(maps)), ())

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
        found = float(drawn.reference[row]), drawn.change[row], drawn.variance[row]
        draws = np.maximum(drawn.draws, 1)
        field = self._field(drawn, *self.evidence.of_draws(target, *found, draws))
        predicted = self._kriged(drawn, field)
        if not target.has_linear_evidence:
            field = self._field(drawn, *self.evidence.linearised(*found, predicted))
            predicted = self._kriged(drawn, field)
        return field, predicted

    def _kriged(self, drawn: Drawn, field: Field) -> FloatArray:
        noise = field.noise / np.maximum(drawn.draws, 1)
        return self._kriging.predict(field.values, drawn.draws > 0, field.amplitude, noise)

    def _field(self, drawn: Drawn, values: FloatArray, noise: FloatArray) -> Field:
        observed, draws = drawn.draws > 0, np.maximum(drawn.draws, 1)
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

    def _allotment(self, drawn: Drawn, estimate: Estimate) -> "_Allotment":
        """What more draws would bring.

        Fields change slowly, so it is computed on a part of the grid.
        """
        part = (slice(self._step // 2, None, self._step),) * drawn.draws.ndim
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
        density, per_window = self._density(drawn)
        return _Allotment(choices, variances, (density * per_window)[part], drawn.draws.size)

    @property
    def _step(self) -> int:
        """Distance of the windows for which draws are allotted."""
        return max(1, min(self.windows.k // 4, *self.windows.shape))

    def _everywhere(self, values: FloatArray) -> FloatArray:
        """Values at a part of the grid, for all windows."""
        for axis, length in enumerate(self.windows.shape):
            places = np.minimum(np.arange(length) // self._step, values.shape[axis] - 1)
            values = values.take(places, axis)
        return values


class _Allotment:
    """How draws are allotted so that the summed variance of a map becomes least.

    At the optimum, one more draw lowers the variance by the same everywhere.

    Parameters
    ----------
    choices : float64 array (n,)
        Draws per window to choose from, ascending.
    variances : float64 array (n, *part)
        Variance that each choice leaves, at a part of the windows.
    had : float64 array (*part)
        Draws per window that were made.
    windows : int
        Number of all windows.
    """

    def __init__(
        self, choices: FloatArray, variances: FloatArray, had: FloatArray, windows: int
    ) -> None:
        steps = np.diff(choices).reshape(-1, *[1] * had.ndim)
        # What the next draws bring never grows, so that the first choices are taken first.
        self._gains = np.minimum.accumulate(-np.diff(variances, axis=0) / steps, axis=0)
        self._ordered = np.sort(self._gains, axis=None)
        self._choices, self._had, self._scale = choices, had, windows / had.size

    def densities(self, passes: int) -> FloatArray:
        """Draws per window, so that together with those that were made there are `passes`."""
        low, high = 0, len(self._ordered) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if np.maximum(self._worth(middle), self._had).sum() * self._scale > passes:
                low = middle
            else:
                high = middle
        return self._worth(high)

    def _worth(self, number: int) -> FloatArray:
        """Draws per window of which each brings at least as much as one of all gains."""
        return self._choices[(self._gains >= self._ordered[number]).sum(axis=0)]


def passes_left(passes: int, reached: FloatArray, accuracy: float) -> int:
    """Forward passes that an accuracy is expected to take from here on.

    The error falls about as one over the root of their number.

    Parameters
    ----------
    passes : int
        Those that were made.
    reached : float64 array (targets,)
        `Estimate.reached`.
    accuracy : float
    """
    factor = float(np.square(np.minimum(reached.max(), 1) / accuracy))
    return max(1, ceil((factor - 1) * passes))


def _share_of_largest(error: FloatArray, maps: FloatArray) -> FloatArray:
    """Root mean square error of each map, as a share of its largest magnitude."""
    axes = tuple(range(1, maps.ndim))
    rms = np.sqrt(np.square(error).mean(axis=axes))
    largest = np.abs(maps).max(axis=axes)
    unknown = np.where(rms > 10 * _TINY, np.inf, 0.0)
    return np.divide(rms, largest, out=unknown, where=largest > 10 * _TINY)
