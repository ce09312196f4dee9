"""Refinement: choice of windows, merging of levels, and maps whose errors are what they say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preddiff.drawn import Drawn, level_of
from preddiff.evidence import (
    Evidence,
    Expectations,
    change_of_evidence,
    relevance,
    weight_of_evidence,
    weight_of_evidence_slope,
)
from preddiff.refinement import Refinement, passes_left, ranks
from preddiff.targets import Target
from preddiff.windows import Selection, Windows

PROBABILITY = Target.parse("probability:1")
LOGIT = Target.parse("logit:1")


@pytest.mark.parametrize("shape", [(300,), (215, 215), (40, 50, 45)])
@pytest.mark.parametrize("share", [0.004, 0.03, 0.2, 0.7])
def test_windows_below_a_rank_are_an_even_share(shape, share):
    below = ranks(shape) < share
    assert below.sum() == pytest.approx(share * below.size, abs=3 + 0.02 * share * below.size)
    # Halves of the grid have as many: far more even than points at random.
    for half in (slice(0, shape[0] // 2), slice(shape[0] // 2, None)):
        wanted = share * below[half].size
        assert below[half].sum() == pytest.approx(wanted, abs=3 + 0.3 * np.sqrt(wanted))


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_windows_are_in_step_with_no_stride(stride):
    chosen = np.argwhere(ranks((215, 215)) < 0.02)
    counts = np.bincount(chosen[:, 0] % stride, minlength=stride)
    assert counts.min() > 0.5 * counts.mean()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_levels_add_up_to_the_moments_of_all_draws(seed, samples):
    """The oracle keeps every draw, in float64."""
    random = np.random.default_rng(seed)
    windows = Windows((6, 7), 2)
    reference = random.normal(size=2)
    every = {}
    drawn = Drawn.nothing(windows, 2)
    for number in range(3):
        index = np.argwhere(np.ones(windows.shape))[random.integers(0, 30, 12)]
        draws = random.normal(size=(len(index), samples, 2))
        found = Expectations(reference[None], draws.mean(1).T[None], draws.var(1, ddof=1).T[None])
        level = level_of(windows, Selection(number, index), samples, found)
        drawn = drawn.with_level(level)
        for place, values in zip(index, draws, strict=True):
            every.setdefault(tuple(place), []).extend(values)
    for place in np.ndindex(windows.shape):
        values = np.array(every.get(place, []))
        assert drawn.draws[place] == len(values)
        if len(values):
            assert drawn.change[(slice(None), *place)] == pytest.approx(values.mean(0), abs=1e-5)
            expected = values.var(0, ddof=1)
            assert drawn.variance[(slice(None), *place)] == pytest.approx(expected, abs=1e-4)


class Simulated:
    """A classifier's expectations: a smooth field of log-odds, and draws scattered around it."""

    def __init__(self, windows, seed, spread, target=PROBABILITY, fine=0.0):
        random = np.random.default_rng(seed)
        self.windows, self.target, self.seed = windows, target, seed
        grid = np.indices(windows.shape)
        field = np.zeros(windows.shape)
        for _ in range(6):
            centre = random.uniform(0, windows.shape, len(windows.shape))
            width = random.uniform(0.8, 2.5) * windows.k
            square = ((grid - centre.reshape(-1, *[1] * len(windows.shape))) ** 2).sum(0)
            field += random.normal() * np.exp(-square / (2 * width**2))
        field += fine * random.normal(size=windows.shape) * np.abs(field)
        self.reference = 0.8 if target is PROBABILITY else 2.0
        self.field, self.spread = field, spread * (np.abs(field) + 0.02)
        self.exact = self._expectation()
        self.relevance = relevance(self.exact, windows)

    def values(self, index, samples, random):
        at = tuple(index.T)
        noise = random.normal(size=(samples, len(index))) * self.spread[at]
        shifted = np.log(4) - self.field[at] + noise
        z = 1 / (1 + np.exp(-shifted)) if self.target is PROBABILITY else shifted
        return z - self.reference

    def _expectation(self):
        # Gauss-Hermite quadrature: exact expectations, without draws.
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        shifted = np.log(4) - self.field[..., None] + self.spread[..., None] * nodes
        z = 1 / (1 + np.exp(-shifted)) if self.target is PROBABILITY else shifted
        change = (z * weights).sum(-1) / weights.sum() - self.reference
        if self.target is PROBABILITY:
            return weight_of_evidence(self.reference, change, 10**6, 10)
        return -change

    def draw(self, chosen, samples):
        random = np.random.default_rng([self.seed, chosen.number])
        draws = self.values(chosen.index, samples, random)
        reference = np.array([[self.reference]])
        variance = draws.var(0, ddof=1)[None, None] if samples > 1 else 0 * draws[None]
        return Expectations(reference, draws.mean(0)[None, None], variance)


def refined(simulated, accuracy, refinement=None):
    windows = simulated.windows
    refinement = refinement or Refinement(windows, [simulated.target], Evidence(2, 10**6, 10))
    drawn, chosen = Drawn.nothing(windows, 1), refinement.first()
    while True:
        found = simulated.draw(chosen.alone, refinement.samples)
        drawn = drawn.with_level(level_of(windows, chosen.alone, refinement.samples, found))
        estimate = refinement.estimate(drawn)
        if refinement.is_reached(drawn.passes, estimate.reached, accuracy):
            return drawn, estimate
        chosen = refinement.next(chosen.number + 1, drawn, estimate)
        if not chosen.size:
            return drawn, estimate


@pytest.mark.parametrize("target", [PROBABILITY, LOGIT], ids=str)
@pytest.mark.parametrize("accuracy", [0.05, 0.02])
def test_errors_are_what_was_asked_for_and_what_is_said(target, accuracy):
    """Over several fields: against the exact expectation, which no draws were made for."""
    squares, said, close = [], [], []
    for seed in range(6):
        simulated = Simulated(Windows((80, 70), 8), seed, 0.4, target, fine=0.1)
        drawn, estimate = refined(simulated, accuracy)
        largest = np.abs(simulated.relevance).max()
        error = estimate.relevance[0] - simulated.relevance
        squares.append((error**2).mean() / largest**2)
        said.append((estimate.error[0] ** 2).mean() / largest**2)
        close.append((np.abs(error) <= 2 * estimate.error[0]).mean())
        if accuracy == 0.05:
            assert drawn.passes < 10 * drawn.draws.size / 4
    assert np.sqrt(np.mean(squares)) < 1.25 * accuracy
    # These fields are smoother than photographs' evidence, so that errors are rather overstated.
    assert 0.5 < np.sqrt(np.mean(squares) / np.mean(said)) < 1.25
    assert np.mean(close) > 0.9


def in_two_precisions(simulated, shift, accuracy):
    """Refine by draws that lack a shift of the log-odds or logit, and half of it at random."""
    windows, target = simulated.windows, simulated.target
    refinement = Refinement(windows, [target], Evidence(2, 10**6, 10), in_two_precisions=True)
    drawn, chosen = refinement.nothing(), refinement.first()
    while True:
        every = np.concatenate([chosen.both.index, chosen.alone.index])
        random = np.random.default_rng([7, chosen.number])
        lacking = shift[tuple(every.T)] * (1 + 0.5 * random.normal(size=len(every)))
        parts = [simulated.draw(part, 1).change for part in (chosen.both, chosen.alone)]
        exact = np.concatenate(parts, 2)
        if target is PROBABILITY:
            p = exact[0, 0] + simulated.reference
            lacking = p - 1 / (1 + np.exp(lacking) * (1 - p) / p)
        change = exact - lacking
        reference, zero = np.array([[simulated.reference]]), np.zeros_like(change)
        count = chosen.both.size
        differences = Expectations(0 * reference, lacking[None, None, :count], zero[..., :count])
        own = level_of(windows, chosen.both, 1, differences)
        found = Expectations(reference, change, zero)
        drawn = drawn.with_level(level_of(windows, Selection(0, every), 1, found, own))
        estimate = refinement.estimate(drawn)
        if refinement.is_reached(drawn.passes, estimate.reached, accuracy):
            return drawn, estimate
        chosen = refinement.next(chosen.number + 1, drawn, estimate)


@pytest.mark.parametrize("target", [PROBABILITY, LOGIT], ids=str)
@pytest.mark.parametrize("size", [0.05, 0.5])
def test_shifts_are_corrected_and_their_errors_said(target, size):
    """With shifts as photographs have them: a field that is where draws scatter."""
    squares, said, without, shares = [], [], [], []
    for seed in range(4):
        simulated = Simulated(Windows((80, 70), 8), seed, 0.4, target, fine=0.1)
        other = Simulated(Windows((80, 70), 8), seed + 50, 0.4, target)
        shift = size * simulated.spread * (2 + other.field)
        drawn, estimate = in_two_precisions(simulated, shift, 0.03)
        largest = np.abs(simulated.relevance).max()
        error = estimate.relevance[0] - simulated.relevance
        squares.append((error**2).mean() / largest**2)
        said.append((estimate.error[0] ** 2).mean() / largest**2)
        plain = Refinement(simulated.windows, [target], Evidence(2, 10**6, 10))
        alone = plain.estimate(replace(drawn, shift=None))
        without.append(((alone.relevance[0] - simulated.relevance) ** 2).mean() / largest**2)
        shares.append(drawn.shift.passes / drawn.passes)
    assert np.sqrt(np.mean(squares)) < 1.25 * 0.03
    assert 0.5 < np.sqrt(np.mean(squares) / np.mean(said)) < 1.25
    if size > 0.1:
        assert np.mean(without) > 9 * np.mean(squares)
    assert np.mean(shares) < 0.3


def test_volumes_are_refined():
    simulated = Simulated(Windows((30, 34, 28), 5), 2, 0.4)
    drawn, estimate = refined(simulated, 0.05)
    error = np.sqrt(((estimate.relevance[0] - simulated.relevance) ** 2).mean())
    assert error < 1.25 * 0.05 * np.abs(simulated.relevance).max()
    assert drawn.passes < 10 * drawn.draws.size / 20


def test_a_finer_accuracy_goes_on_from_a_coarser_one():
    simulated = Simulated(Windows((70, 70), 8), 3, 0.4)
    coarse, _ = refined(simulated, 0.05)
    fine, _ = refined(simulated, 0.02)
    had = coarse.draws > 0
    assert (fine.draws >= coarse.draws).all()
    untouched = had & (fine.draws == coarse.draws)
    assert np.array_equal(fine.change[:, untouched], coarse.change[:, untouched])


def test_draws_go_where_the_evidence_is():
    windows = Windows((120, 120), 8)
    simulated = Simulated(windows, 0, 0.4)
    simulated.field[:, 60:] = 0
    simulated.spread[:, 60:] = 1e-3
    drawn, _ = refined(simulated, 0.015)
    assert drawn.draws[:, :60].sum() > 2 * drawn.draws[:, 60:].sum()


def test_a_sampler_that_is_not_random_draws_windows_once():
    windows = Windows((30, 30), 4)
    simulated = Simulated(windows, 2, 0.0)
    refinement = Refinement(windows, [PROBABILITY], Evidence(1, 10**6, 10), random=False)
    drawn, estimate = refined(simulated, 1e-9, refinement)
    assert (drawn.draws == 1).all()
    # Nothing is interpolated, so that the map is exact but for float32, in which draws are stored.
    assert estimate.relevance[0] == pytest.approx(simulated.relevance, abs=1e-5)
    assert not estimate.error.any()
    assert estimate.reached[0] == 0


def test_a_classifier_that_never_changes_is_done_at_once():
    windows = Windows((40, 40), 5)
    simulated = Simulated(windows, 0, 0.0, LOGIT)
    simulated.field[:], simulated.spread[:], simulated.reference = 0, 0, np.log(4)
    drawn, estimate = refined(simulated, 0.02)
    assert estimate.reached[0] == 0
    assert drawn.passes < 700


def test_each_of_several_targets_reaches_the_accuracy():
    windows = Windows((70, 70), 8)
    one, other = Simulated(windows, 1, 0.4), Simulated(windows, 2, 0.4)
    refinement = Refinement(windows, [PROBABILITY, PROBABILITY], Evidence(2, 10**6, 10))
    drawn, chosen = Drawn.nothing(windows, 2), refinement.first()
    for _ in range(40):
        parts = [simulated.draw(chosen.alone, 2) for simulated in (one, other)]
        found = Expectations(
            *(
                np.concatenate([getattr(p, name) for p in parts], 1)
                for name in ("reference", "change", "variance")
            )
        )
        drawn = drawn.with_level(level_of(windows, chosen.alone, 2, found))
        estimate = refinement.estimate(drawn)
        if refinement.is_reached(drawn.passes, estimate.reached, 0.04):
            break
        chosen = refinement.next(chosen.number + 1, drawn, estimate)
    for row, simulated in enumerate((one, other)):
        error = np.sqrt(((estimate.relevance[row] - simulated.relevance) ** 2).mean())
        assert error < 1.25 * 0.04 * np.abs(simulated.relevance).max()


def test_time_left_follows_the_root_of_the_passes():
    windows = Windows((60, 60), 6)
    drawn, estimate = refined(Simulated(windows, 0, 0.4), 0.1)
    now = float(estimate.reached[0])
    assert passes_left(drawn.passes, estimate.reached, now / 2) == pytest.approx(
        3 * drawn.passes, rel=0.01
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_evidence_is_inverted(reference, expected):
    found = weight_of_evidence(reference, expected - reference, 1000, 5)
    assert change_of_evidence(reference, found, 1000, 5) == pytest.approx(expected - reference)
    beyond = change_of_evidence(reference, np.array([-99.0, 99.0]), 1000, 5)
    assert beyond == pytest.approx([1 - reference, -reference])


def test_linearised_evidence_has_no_bias_from_few_draws():
    """With draws that a plain logarithm is far off for."""
    random = np.random.default_rng(0)
    z = random.beta(0.5, 0.5, size=(100_000, 2))
    change, variance = z.mean(1) - 0.9, z.var(1, ddof=1)
    exact = weight_of_evidence(0.9, 0.5 - 0.9, 10**6, 10)
    evidence = Evidence(2, 10**6, 10)
    found, noise = evidence.linearised(0.9, change, variance, np.full(len(z), exact))
    assert found.mean() == pytest.approx(exact, abs=0.02)
    assert noise.mean() / 2 == pytest.approx(found.var(), rel=0.02)


@pytest.mark.parametrize("draws", [2, 4, 10])
def test_the_bias_of_the_logarithm_is_corrected(draws):
    """Mean over many repetitions: near the evidence of the exact expectation."""
    random = np.random.default_rng(0)
    z = random.beta(4, 2, size=(100_000, draws))
    change, variance = z.mean(1) - 0.9, z.var(1, ddof=1)
    exact = weight_of_evidence(0.9, 4 / 6 - 0.9, 10**6, 10)
    plain = weight_of_evidence(0.9, change, 10**6, 10).mean() - exact
    found, noise = Evidence(2, 10**6, 10).of_draws(PROBABILITY, 0.9, change, variance, draws)
    assert abs(found.mean() - exact) < 0.3 * abs(plain)
    slope = weight_of_evidence_slope(0.9, 4 / 6 - 0.9, 10**6, 10)
    assert noise.mean() == pytest.approx(slope**2 * z.var(), rel=0.25 if draws > 2 else 0.6)
