"""Surroundings that extend beyond a classifier's input, against dense linear algebra."""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines.dense import Dense
from preddiff.engines.linear import Exact, Samples
from preddiff.engines.refined import levels
from preddiff.errors import InputError
from preddiff.evidence import Evidence, relevance
from preddiff.refinement import Refinement
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.conditional_settings import ConditionalSettings
from preddiff.samplers.draws import generator
from preddiff.samplers.gaussian import Gaussian, Grid, LocatedPatchGaussian
from preddiff.targets import Target
from preddiff.windows import Surroundings, Windows
from tests.conftest import fitted, smooth

TARGETS = [Target("probability", "yes"), Target("logit", "yes")]
CELLS = (2, 3, 2)


@dataclass(frozen=True)
class Case:
    """Items, the slab of them that a classifier sees, and windows of it."""

    shape: tuple[int, ...]
    slab: tuple[slice, ...]
    k: int
    l: int
    stride: int = 1
    by_location: bool = False
    overlapping: bool = False

    @cached_property
    def items(self) -> np.ndarray:
        return smooth(np.random.default_rng(1), (30, *self.shape))

    @property
    def classifier(self) -> LinearClassifier:
        sides = tuple(part.stop - part.start for part in self.slab)
        weights = np.random.default_rng(2).normal(size=(self.shape[0], *sides)) * 0.4
        corner = tuple(part.start for part in self.slab)
        return LinearClassifier(weights, 0.3, ("no", "yes"), 40, corner)

    @cached_property
    def gaussians(self) -> list[Gaussian]:
        """One of all locations, or one for each cell."""
        count = int(np.prod(CELLS)) if self.by_location else 1
        # They differ, so that the wrong one gives other results.
        return [fitted(self.items * (1 + n / 10) + n, self.l) for n in range(count)]

    def sampler(self, corner: tuple[int, ...]) -> Conditional:
        if not self.by_location:
            return Conditional(self.gaussians[0])
        fits = {n: (one.mean, one.covariance) for n, one in enumerate(self.gaussians)}
        grid, here = Grid(self.shape[1:], CELLS), (0,) * len(CELLS)
        return Conditional(LocatedPatchGaussian(grid, fits, self.l, 1, here).at(corner))

    @property
    def whole(self) -> Windows:
        sizes = self.shape[1:], self.k, self.stride, self.slab
        return Windows.overlapping(*sizes) if self.overlapping else Windows(*sizes)

    def context(self, surroundings: str) -> tuple[slice, ...]:
        settings = ConditionalSettings(kind="conditional", surroundings=surroundings)
        return settings.context(self.whole, self.l)

    def seen(self, surroundings: str) -> tuple[np.ndarray, Windows, Conditional]:
        """What engines are given: the first item, its windows, and the sampler."""
        part = self.context(surroundings)
        x = self.items[0][(slice(None), *part)]
        corner = tuple(one.start for one in part)
        return x, self.whole.cropped(part), self.sampler(corner)


def slabs(shape: tuple[int, ...], axis: int, *ends: tuple[int, int]) -> list[tuple[slice, ...]]:
    found = []
    for first, stop in ends:
        slab = [slice(0, n) for n in shape]
        slab[axis] = slice(first, stop)
        found.append(tuple(slab))
    return found


# Slabs at both borders of the item, near them, in the middle and as large as the item; the last two
# of each group are thinner than the surroundings.
CASES = [
    *(
        Case((1, 9, 5, 6), slab, 2, 4, by_location=by_location)
        for slab in slabs((9, 5, 6), 0, (0, 4), (1, 5), (3, 7), (5, 9), (0, 9), (4, 7), (8 - 2, 8))
        for by_location in (False, True)
    ),
    *(Case((1, 5, 7, 5), slab, 1, 5) for slab in slabs((5, 7, 5), 1, (0, 5), (2, 4), (6, 7))),
    *(Case((2, 8, 9), slab, 2, 4, 2) for slab in slabs((8, 9), 1, (0, 4), (2, 7), (3, 5))),
    # A box, away from the borders along each axis but the last.
    Case((1, 8, 9, 7), (slice(2, 6), slice(3, 6), slice(4, 7)), 3, 5),
]
# The same slabs, by all windows that contain a voxel of them, and slabs thinner than a window.
CASES += [
    *(replace(case, overlapping=True) for case in CASES if case.k > 1),
    *(
        Case((1, 7, 6, 5), slab, 3, 5, stride, overlapping=True)
        for slab in slabs((7, 6, 5), 0, (0, 1), (3, 4), (5, 7))
        for stride in (1, 2)
    ),
]
IDS = [
    "-".join(
        [
            *(f"{part.start}:{part.stop}" for part in case.slab),
            *(["location"] if case.by_location else []),
            *(["overlapping"] if case.overlapping else []),
            *([f"stride {case.stride}"] if case.stride > 1 else []),
        ]
    )
    for case in CASES
]
INTERIOR, THIN = CASES[4], CASES[10]
LOCATED = CASES[5]
SOME = {
    "interior": INTERIOR,
    "location": LOCATED,
    "thin": THIN,
    **{
        f"{name}, overlapping": replace(case, overlapping=True)
        for name, case in (("interior", INTERIOR), ("location", LOCATED), ("thin", THIN))
    },
    "thinner than windows": Case(
        (1, 7, 6, 5), slabs((7, 6, 5), 0, (3, 4))[0], 3, 5, 1, False, True
    ),
}


def moments_of_shift(
    case: Case, start: tuple[int, ...], limits: tuple[slice, ...]
) -> tuple[float, float]:
    """Mean and variance of the logit's shift when the window at `start` of the item is redrawn.

    The l**d patch around the window, shifted to stay inside the limits, is written out voxel by
    voxel, and its Gaussian conditioned by solving with the covariance of what surrounds the window.
    """
    x, k, l = case.items[0].astype(np.float64), case.k, case.l
    first = []
    for place, limit in zip(start, limits, strict=True):
        at = place - (l - k) // 2
        while at < limit.start:
            at += 1
        while at + l > limit.stop:
            at -= 1
        first.append(at)
    number = 0
    if case.by_location:
        centre = [at + l // 2 for at in first]
        cell = [c * m // n for c, m, n in zip(centre, CELLS, case.shape[1:], strict=True)]
        number = (cell[0] * CELLS[1] + cell[1]) * CELLS[2] + cell[2]
    gaussian = case.gaussians[number]
    places = list(itertools.product(range(len(x)), *(range(at, at + l) for at in first)))
    window = [
        n
        for n, (_, *voxel) in enumerate(places)
        if all(s <= v < s + k for s, v in zip(start, voxel, strict=True))
    ]
    around = [n for n in range(len(places)) if n not in window]
    values = np.array([x[place] for place in places])
    weights = np.zeros(case.shape)
    weights[(slice(None), *case.slab)] = case.classifier.weights
    w = np.array([weights[places[n]] for n in window])
    covariance, mean = gaussian.covariance, gaussian.mean
    between = covariance[np.ix_(window, around)]
    solved = np.linalg.solve(
        covariance[np.ix_(around, around)],
        np.column_stack([values[around] - mean[around], between.T]),
    )
    redrawn = mean[window] + between @ solved[:, 0]
    within = covariance[np.ix_(window, window)] - between @ solved[:, 1:]
    return float(w @ (redrawn - values[window])), float(w @ within @ w)


def moments_of_probability(logit: float, mean: float, variance: float) -> tuple[float, float]:
    """Change and variance of the probability, by the trapezoidal rule over ten deviations."""
    z = np.linspace(-10, 10, 20_001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    p = expit(logit + mean + np.sqrt(max(variance, 0)) * z)
    first = np.trapezoid(p * density, z)
    return first - expit(logit), np.trapezoid((p - first) ** 2 * density, z)


def expected(case: Case, surroundings: str) -> tuple[np.ndarray, np.ndarray]:
    """Changes and variances of both targets, (targets, *windows)."""
    limits = case.slab if surroundings == "input" else tuple(slice(0, n) for n in case.shape[1:])
    own = case.items[0][(slice(None), *case.slab)].astype(np.float64)
    logit = float((case.classifier.weights * own).sum() + case.classifier.intercept)
    starts = []
    for part, length in zip(case.slab, case.shape[1:], strict=True):
        first, last = part.start, part.stop - case.k
        if case.overlapping:
            first, last = max(0, first - (case.k - 1)), min(length - case.k, part.stop - 1)
        along = list(range(first, last + 1, case.stride))
        starts.append(along if along[-1] == last else [*along, last])
    shape = tuple(len(along) for along in starts)
    change, variance = np.empty((2, *shape)), np.empty((2, *shape))
    for index in np.ndindex(shape):
        start = tuple(along[i] for along, i in zip(starts, index, strict=True))
        mean, spread = moments_of_shift(case, start, limits)
        change[(1, *index)], variance[(1, *index)] = mean, spread
        found = moments_of_probability(logit, mean, spread)
        change[(0, *index)], variance[(0, *index)] = found
    return change, variance


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_exact_expectations_are_conditioned_on_what_lies_beside_the_slab(case: Case) -> None:
    x, windows, sampler = case.seen("item")
    engine = Exact(case.classifier, sampler, windows, TARGETS)
    found = engine.expectations(x[None], ["item 0"], windows.everything)
    change, variance = expected(case, "item")
    assert found.change[0] == pytest.approx(change, abs=1e-9)
    assert found.variance[0] == pytest.approx(variance, abs=1e-9)
    own = case.items[0][(slice(None), *case.slab)]
    assert found.reference[0, 1] == pytest.approx(case.classifier.logit(own[None])[0])


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if min(s.stop - s.start for s in case.slab) >= case.l and not case.overlapping
    ],
)
def test_inside_the_input_only_they_are_those_of_the_slab_alone(case: Case) -> None:
    x, windows, sampler = case.seen("input")
    assert x.shape == case.classifier.weights.shape
    engine = Exact(case.classifier, sampler, windows, TARGETS)
    found = engine.expectations(x[None], ["item 0"], windows.everything)
    change, variance = expected(case, "input")
    assert found.change[0] == pytest.approx(change, abs=1e-9)
    assert found.variance[0] == pytest.approx(variance, abs=1e-9)
    # And to the bit those of an input that has nothing around it.
    plain = Exact(case.classifier, sampler, Windows(x.shape[1:], case.k, case.stride), TARGETS)
    same = plain.expectations(x[None], ["item 0"], windows.everything)
    for name in ("reference", "change", "variance"):
        assert np.array_equal(getattr(found, name), getattr(same, name))


@pytest.mark.parametrize("case", SOME.values(), ids=SOME)
def test_exact_expectations_are_the_limit_of_100_000_draws(case: Case) -> None:
    x, windows, sampler = case.seen("item")
    exact = Exact(case.classifier, sampler, windows, TARGETS)
    drawn = Samples(case.classifier, sampler, windows, TARGETS, 100_000, 5)
    for block in list(windows.blocks(6))[::5]:
        found = exact.expectations(x[None], ["item 0"], block)
        many = drawn.expectations(x[None], ["item 0"], block)
        error = np.sqrt(many.variance / 100_000) + 1e-6
        assert (np.abs(found.change - many.change) < 4 * error).all()
        assert found.variance[0, 1] == pytest.approx(many.variance[0, 1], rel=0.05, abs=1e-12)
        assert found.reference == pytest.approx(many.reference)


@pytest.mark.parametrize("case", SOME.values(), ids=SOME)
def test_a_network_sees_its_input_alone_with_one_window_redrawn(case: Case) -> None:
    x, windows, sampler = case.seen("item")
    linear, shape = case.classifier, case.classifier.weights.shape
    inputs: list[np.ndarray] = []

    def nodes(batch: torch.Tensor, item: str) -> torch.Tensor:
        inputs.append(batch.numpy().copy())
        logit = torch.from_numpy(linear.logit(batch.numpy()))
        return torch.stack([torch.sigmoid(logit), logit], dim=1)

    dense = Dense(nodes, sampler, windows, 3, 5)
    block = list(windows.blocks(20))[1]
    found = dense.expectations(x[None], ["item 0"], block)
    same = Samples(linear, sampler, windows, TARGETS, 3, 5).expectations(x[None], ["item 0"], block)
    assert found.change == pytest.approx(same.change, abs=1e-5)
    assert found.variance == pytest.approx(same.variance, abs=1e-5)
    own = case.items[0][(slice(None), *case.slab)]
    assert inputs[0].shape == (1, *shape) and np.array_equal(inputs[0][0], own)
    draws = sampler.draw(
        torch.from_numpy(x), "item 0", windows, block, 3, generator(5, "item 0", block)
    ).numpy()
    redrawn = np.concatenate(inputs[1:])
    for number, start in enumerate(windows.first_voxels(block)):
        box = (slice(None), *(slice(s, s + case.k) for s in start))
        for sample in range(3):
            filled = x.copy()
            filled[box] = draws[number, sample].reshape(filled[box].shape)
            assert np.array_equal(redrawn[number * 3 + sample], windows.cut(filled))


@pytest.mark.parametrize("case", SOME.values(), ids=SOME)
def test_refined_maps_are_as_near_to_the_exact_one_as_they_say(case: Case) -> None:
    x, windows, sampler = case.seen("item")
    linear, alone = case.classifier, windows.alone

    def nodes(batch: torch.Tensor, item: str) -> torch.Tensor:
        return torch.from_numpy(linear.logit(batch.numpy()))[:, None]

    found = Exact(linear, sampler, windows, TARGETS[1:]).expectations(
        x[None], ["item 0"], windows.everything
    )
    expected = relevance(-found.change[0, 0], alone)
    refinement = Refinement(alone, TARGETS[1:], Evidence(2, 40, 2))
    for level in levels(Dense(nodes, sampler, windows, 2, 5), refinement, x, "item 0"):
        error = np.sqrt(np.mean((level.estimate.relevance[0] - expected) ** 2))
        said = level.estimate.reached[0] * np.abs(level.estimate.relevance).max()
        if level.estimate.reached[0] < 0.03:
            break
    assert error < 1.6 * said
    assert level.drawn.reference[0] == pytest.approx(found.reference[0, 0])


@pytest.mark.parametrize("case", [INTERIOR, LOCATED, THIN], ids=["interior", "location", "thin"])
def test_filled_inputs_change_in_their_windows_only(case: Case) -> None:
    x, windows, sampler = case.seen("item")
    filled = sampler.fill(torch.from_numpy(x), windows).numpy()
    part = (slice(None), *windows.region)
    outside = np.ones(x.shape, dtype=bool)
    outside[part] = False
    assert np.array_equal(filled[outside], x[outside])
    assert (filled[part] != x[part]).all()
    weights = case.classifier.weights
    last = (slice(None), *(slice(n - case.k, n) for n in weights.shape[1:]))
    shift = (weights[last] * (filled[part][last] - x[part][last])).sum()
    start = tuple(one.stop - case.k for one in case.slab)
    mean, _ = moments_of_shift(case, start, tuple(slice(0, n) for n in case.shape[1:]))
    assert shift == pytest.approx(mean, abs=1e-5)


@st.composite
def windows_in_items(draw: st.DrawFn) -> tuple[Windows, int]:
    k = draw(st.integers(1, 4))
    l = k + 2 * draw(st.integers(0, 2))
    space, part = [], []
    for _ in range(draw(st.integers(1, 3))):
        before, side, after = (
            draw(st.integers(0, 5)), draw(st.integers(k, 7)), draw(st.integers(0, 5)),
        )  # fmt: skip
        space.append(max(before + side + after, l))
        part.append(slice(before, before + side))
    return Windows(tuple(space), k, draw(st.integers(1, k)), tuple(part)), l


@given(windows_in_items())
def test_the_context_holds_what_the_item_allows_and_no_more(given: tuple[Windows, int]) -> None:
    windows, l = given
    context = ConditionalSettings(kind="conditional").context(windows, l)
    space, part = windows.space, windows.region
    for one, own, n in zip(context, part, space, strict=True):
        assert 0 <= one.start <= own.start and own.stop <= one.stop <= n
        # A margin on each side, or more on the other where the item ends.
        assert one.stop - one.start <= max(own.stop - own.start + l - windows.k, l)
    # In the context, surroundings are those in the item.
    inside = windows.cropped(context)
    corner = np.array([one.start for one in context])
    everywhere, here = Surroundings(windows, l), Surroundings(inside, l)
    block = windows.everything
    assert np.array_equal(here.first_voxels(block) + corner, everywhere.first_voxels(block))
    assert np.array_equal(here.positions(block), everywhere.positions(block))
    first = everywhere.first_voxels(block)
    position = everywhere.positions(block)
    assert (first >= 0).all() and (first + l <= np.array(space)).all()
    assert (position >= 0).all() and (position + windows.k <= l).all()
    centred = position == (l - windows.k) // 2
    at_border = (first == 0) | (first + l == np.array(space))
    assert (centred | at_border).all()


@pytest.mark.parametrize("surroundings", ["item", "input"])
def test_of_whole_items_the_context_is_the_item(surroundings: str) -> None:
    settings = ConditionalSettings(kind="conditional", surroundings=surroundings)
    assert settings.context(Windows((9, 7), 3), 5) == (slice(0, 9), slice(0, 7))


def test_surroundings_that_do_not_fit_into_an_input_may_fit_into_its_item() -> None:
    windows = Windows((9, 9), 3, part=(slice(2, 6), slice(0, 9)))
    assert ConditionalSettings(kind="conditional").context(windows, 7) == (
        slice(0, 8),
        slice(0, 9),
    )
    alone = ConditionalSettings(kind="conditional", surroundings="input")
    with pytest.raises(InputError, match="l = 7 do not fit into an input of 4 x 9 voxels"):
        alone.context(windows, 7)
