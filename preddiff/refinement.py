"""Refinement: which windows are drawn next, and how exact the map is that all of them give.

The estimand is the relevance of all windows at stride 1 with draws without end. Windows are chosen
level by level, each of which has about a third more forward passes than those before together. The
evidence of all windows is predicted by kriging (`preddiff.kriging`) from those that were drawn.
What is drawn at a level depends on the levels before and on nothing else, in particular not on the
accuracy that is asked for: it only says after which level to stop.

In reduced precision, the evidence is that of the draws plus a shift, which is predicted likewise
from the windows whose draws are made in float32 too. Both have their part in the error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

import numpy as np

from preddiff.drawn import Chosen, Drawn
from preddiff.evidence import Evidence, relevance
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
# What a forward pass in float32 costs, in passes in reduced precision.
_COST = 2
# Variance of a shift is at least this share of what its draws, with their noise, show.
_LEAST_SHIFT = 0.1
# Evidence and maps that are smaller than this are zero but for rounding.
_TINY = 1e-12
# Draws per window among which the next level chooses, in units of those of the second level or, for
# the shift, of the first.
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
    fields : tuple of tuple of Field
        What is known of each target's evidence and, in two precisions, of its shift, for the choice
        of the next level.
    """

    evidence: FloatArray
    relevance: FloatArray
    stderr: FloatArray
    error: FloatArray
    reached: FloatArray
    fields: tuple[tuple[Field, ...], ...]


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
    in_two_precisions : bool
        Whether draws are in reduced precision, so that their shift has to be found.
    """

    def __init__(
        self,
        windows: Windows,
        targets: Sequence[Target],
        evidence: Evidence,
        random: bool = True,
        in_two_precisions: bool = False,
    ) -> None:
        self.windows = windows
        self.targets = tuple(targets)
        self.evidence = evidence
        self.samples = 2 if random else 1
        self.in_two_precisions = in_two_precisions
        self._random = random
        self._ranks = ranks(windows.shape)
        correlation = Correlation(_LENGTH * windows.k, _NUGGET)
        self._kriging = Kriging(windows.shape, correlation)
        self._errors = lattice_errors(correlation, windows.k, len(windows.space))

    def nothing(self) -> Drawn:
        """Nothing is known of an item yet."""
        return Drawn.nothing(self.windows, len(self.targets), self.in_two_precisions)

    def first(self) -> Chosen:
        """Windows of the first level."""
        entries = np.where(self._ranks < self._share(_FIRST), 1, 0)
        return self._chosen(0, entries, entries)

    def next(self, level: int, drawn: Drawn, estimate: Estimate) -> Chosen:
        """Choose the windows of a level so that, for its passes, the error becomes least.

        Parameters
        ----------
        level : int
            From 1.
        drawn, estimate : Drawn, Estimate
            Of all levels before.

        Returns
        -------
        Chosen
            Empty if nothing is left to draw.
        """
        kinds = _kinds(drawn)
        had = np.stack([kind.draws for kind in kinds]) // self.samples
        least = np.where(self._ranks < self._share(_SECOND), 1, 0)
        nothing = np.zeros_like(least)
        if (least > had[0]).any():
            return self._chosen(level, np.maximum(least - had[0], 0), nothing)
        if self._is_exhausted(drawn):
            return self._chosen(level, nothing, nothing)
        allotment = self._allotment(drawn, estimate)
        passes = int(sum(_COST**n * kind.draws.sum() for n, kind in enumerate(kinds)))
        missing = np.zeros_like(had)
        # A level can be too small to hold a whole window.
        while not missing.any():
            passes = ceil(_GROWTH * passes)
            density = self._everywhere(allotment.densities(passes))
            wanted = np.floor(density / self.samples + 1 - self._ranks).astype(np.int64)
            if not self._random:
                wanted = np.minimum(wanted, 1)
            missing = np.maximum(wanted - had, 0)
        return self._chosen(level, missing[0], missing[-1])

    def _share(self, distance: float) -> float:
        """Share of the windows of a lattice with some distance, in sides of a window."""
        share = max(1.0, distance * self.windows.k) ** -len(self.windows.space)
        return min(1.0, max(share, _FEWEST / prod(self.windows.shape)))

    def _chosen(self, level: int, entries: IntArray, both: IntArray) -> Chosen:
        """Windows that lack draws at all, and in float32, of `samples` draws each."""
        if not self.in_two_precisions:
            return Chosen(level, _selection(level, entries), _selection(level, np.zeros_like(both)))
        # Single draws, so that each can be compared. The two selections have draws of their own.
        alone, both = (self.samples * count for count in (np.maximum(entries - both, 0), both))
        return Chosen(level, _selection(2 * level, alone), _selection(2 * level + 1, both))

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
        shares = (_SECOND, _FIRST) if self.in_two_precisions else (_SECOND,)
        spread = sum(int((self._ranks < self._share(share)).sum()) for share in shares)
        is_enough = passes > spread * self.samples or self._are_all_windows(passes)
        return bool(is_enough and (reached <= accuracy).all())

    def _are_all_windows(self, passes: int) -> bool:
        """Whether so many passes, of draws that do not differ, are those of all windows."""
        precisions = 2 if self.in_two_precisions else 1
        return not self._random and passes >= precisions * prod(self.windows.shape)

    def _is_exhausted(self, drawn: Drawn) -> bool:
        """Whether more draws would tell nothing new: all windows have the only one there is."""
        return not self._random and bool((_kinds(drawn)[-1].draws > 0).all())

    def estimate(self, drawn: Drawn) -> Estimate:
        """Predict the evidence of all windows, and the error of the maps, from all levels."""
        if self._is_exhausted(drawn):
            return self._exact(drawn)
        densities = [self._density(kind) for kind in _kinds(drawn)]
        found: list[tuple[FloatArray, ...]] = []
        every = []
        for row, target in enumerate(self.targets):
            fields, predicted = self._predicted(drawn, row, target)
            variance, of_means, from_noise = (
                sum(parts) for parts in zip(*map(self._variances, fields, densities), strict=True)
            )
            error = self._of_voxels(of_means, variance)
            stderr = self._of_voxels(from_noise, variance)
            found.append((predicted, relevance(predicted, self.windows), stderr, error))
            every.append(fields)
        evidence, maps, stderrs, errors = (np.stack(values) for values in zip(*found, strict=True))
        reached = _share_of_largest(errors, maps)
        return Estimate(evidence, maps, stderrs, errors, reached, tuple(every))

    def _variances(
        self, field: "Field", density: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Variances of a predicted field's errors: of values, of means, and of means by noise."""
        share, per_window = density
        power = np.square(field.amplitude)
        local = (share, field.noise / per_window / power)
        from_noise = np.where(field.noise > 0, self._errors.of_means_from_noise(*local), 0.0)
        of_values, of_means = self._errors.of_values(*local), self._errors.of_means(*local)
        return power * of_values, power * of_means, power * from_noise

    def _exact(self, drawn: Drawn) -> Estimate:
        """Maps of draws that do not differ, one of each window."""
        change = np.sum([kind.change for kind in _kinds(drawn)], axis=0)
        found = [
            self.evidence.of_draws(
                target,
                float(drawn.reference[row]),
                change[row],
                np.zeros_like(change[row]),
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

    def _predicted(
        self, drawn: Drawn, row: int, target: Target
    ) -> tuple[tuple[Field, ...], FloatArray]:
        """Evidence of one target as a random field, its shift, and what kriging predicts of both.

        Evidence is not linear in the draws. A first prediction, from the evidence of each window
        by itself, tells where to linearise it for the second.
        """
        found = float(drawn.reference[row]), drawn.change[row], drawn.variance[row]
        draws = np.maximum(drawn.draws, 1)
        field = self._field(drawn, *self.evidence.of_draws(target, *found, draws))
        at = self._kriged(drawn, field)
        fields, predicted = self._with_shift(drawn, row, field, at, at)
        if not target.has_linear_evidence:
            field = self._field(drawn, *self.evidence.linearised(*found, predicted))
            at = self._kriged(drawn, field)
            fields, predicted = self._with_shift(drawn, row, field, at, predicted)
        return fields, predicted

    def _with_shift(
        self, drawn: Drawn, row: int, field: Field, predicted: FloatArray, at: FloatArray
    ) -> tuple[tuple[Field, ...], FloatArray]:
        """Add the shift of the evidence, in two precisions, to what is predicted without.

        Its variance and its noise are taken to be in the same proportions to the noise of the draws
        everywhere (measured: within a factor of three over a photograph, while the proportion to
        the evidence varies by thirty), so that few draws tell them.
        """
        shift = drawn.shift
        if shift is None:
            return (field,), predicted
        found = shift.change[row], shift.variance[row]
        reference = float(drawn.reference[row])
        values, noise = self.evidence.of_shift(self.targets[row], reference, *found, at)
        observed = shift.draws > 0
        scale = field.noise if self._random else np.square(field.amplitude)
        scale = np.maximum(scale, max(_LEAST_VARIANCE * scale.mean(), _TINY**2))
        total = scale[observed].sum()
        noise_share = noise[observed].sum() / total
        seen = np.square(values[observed]).sum()
        by_noise = (noise[observed] / shift.draws[observed]).sum()
        share = max(seen - by_noise, _LEAST_SHIFT * seen, _TINY**2) / total
        own = Field(values, np.sqrt(share * scale), noise_share * scale)
        return (field, own), predicted + self._kriged(shift, own)

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
        total = windows.cut(windows.sum_over_windows(size * of_means))
        independent = total / np.square(windows.cut(windows.counts))
        return np.sqrt(np.minimum(independent, relevance(of_values, windows)))

    @cached_property
    def _border_weights(self) -> FloatArray:
        """What an error of each window does to the map, relative to one in the interior."""
        windows = self.windows
        size = windows.k ** len(windows.space)
        # Voxels that the classifier does not see are not in the map.
        per_voxel = windows.padded(1 / np.square(windows.cut(windows.counts)))
        return size * windows.sum_in_windows(per_voxel)

    def _allotment(self, drawn: Drawn, estimate: Estimate) -> "_Allotment":
        """What more draws would bring.

        Fields change slowly, so it is computed on a part of the grid.
        """
        part = (slice(self._step // 2, None, self._step),) * drawn.draws.ndim
        kinds = _kinds(drawn)
        lattices = (_SECOND, _FIRST)[: len(kinds)]
        choices = np.stack([self._share(one) * self.samples * _DENSITIES for one in lattices])
        variances = np.zeros((*choices.T.shape, *drawn.draws[part].shape))
        for row, fields in enumerate(estimate.fields):
            largest = max(float(np.abs(estimate.relevance[row]).max()), _TINY)
            for kind, field in enumerate(fields):
                power = np.square(field.amplitude[part])
                weight = power * self._border_weights[part] / largest**2
                for number, draws in enumerate(choices[kind]):
                    density = np.full(power.shape, min(1.0, draws / self.samples))
                    ratio = field.noise[part] / max(self.samples, draws) / power
                    variances[number, kind] += weight * self._errors.of_means(density, ratio)
        had = np.stack([np.multiply(*self._density(kind))[part] for kind in kinds])
        return _Allotment(choices, variances, had, drawn.draws.size)

    @property
    def _step(self) -> int:
        """Distance of the windows for which draws are allotted."""
        return max(1, min(self.windows.k // 4, *self.windows.shape))

    def _everywhere(self, values: FloatArray) -> FloatArray:
        """Values (kinds, *part) at a part of the grid, for all windows."""
        for axis, length in enumerate(self.windows.shape):
            places = np.minimum(np.arange(length) // self._step, values.shape[axis + 1] - 1)
            values = values.take(places, axis + 1)
        return values


def _kinds(drawn: Drawn) -> tuple[Drawn, ...]:
    """Draws of the evidence and, in two precisions, of the shift."""
    return (drawn,) if drawn.shift is None else (drawn, drawn.shift)


def _selection(number: int, entries: IntArray) -> Selection:
    index = np.argwhere(entries > 0)
    return Selection(number, np.repeat(index, entries[entries > 0], axis=0))


class _Allotment:
    """How draws are allotted so that the summed variance of a map becomes least.

    At the optimum, one more pass lowers the variance by the same everywhere.

    Parameters
    ----------
    choices : float64 array (kinds, n)
        Draws per window to choose from, ascending: for the evidence and, in two precisions, for its
        shift.
    variances : float64 array (n, kinds, *part)
        Variance that each choice leaves, at a part of the windows.
    had : float64 array (kinds, *part)
        Draws per window that were made.
    windows : int
        Number of all windows.
    """

    def __init__(
        self, choices: FloatArray, variances: FloatArray, had: FloatArray, windows: int
    ) -> None:
        steps = np.diff(choices).T.reshape(-1, len(had), *[1] * (had.ndim - 1))
        costs = _COST ** np.arange(len(had), dtype=np.float64)
        self._costs = costs.reshape(-1, *[1] * (had.ndim - 1))
        # What the next draws bring never grows, so that the first choices are taken first.
        gains = np.minimum.accumulate(-np.diff(variances, axis=0) / steps, axis=0)
        self._gains = gains / self._costs
        self._ordered = np.sort(self._gains, axis=None)
        self._choices, self._had, self._scale = choices, had, windows / had[0].size

    def densities(self, passes: int) -> FloatArray:
        """Draws per window, so that together with those that were made there are `passes`.

        Passes in float32 count as `_COST`.
        """
        low, high = 0, len(self._ordered) - 1
        while high - low > 1:
            middle = (low + high) // 2
            draws = self._costs * np.maximum(self._worth(middle), self._had)
            if draws.sum() * self._scale > passes:
                low = middle
            else:
                high = middle
        return self._worth(high)

    def _worth(self, number: int) -> FloatArray:
        """Draws per window of which each brings at least as much as one of all gains."""
        counts = (self._gains >= self._ordered[number]).sum(axis=0)
        return np.stack([one[count] for one, count in zip(self._choices, counts, strict=True)])


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
