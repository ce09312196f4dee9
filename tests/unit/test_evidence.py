"""Evidence against its definition in exact rational arithmetic."""

from fractions import Fraction
from math import isfinite, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.evidence import (
    Evidence,
    activation_difference,
    laplace_correction,
    weight_of_evidence,
    weight_of_evidence_slope,
)
from preddiff.targets import Target

probabilities = st.floats(0, 1)


def by_definition(p: float, mean: float, n: int, classes: int) -> float:
    """Equation 4 of the paper after Laplace correction, in rational numbers up to the logarithm."""

    def odds(value: float) -> Fraction:
        corrected = (Fraction(value) * n + 1) / (n + classes)
        return corrected / (1 - corrected)

    ratio = odds(p) / odds(mean)
    return log2(ratio.numerator) - log2(ratio.denominator)


@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize("n", [16, 140, 1_281_167])
@given(p=probabilities, mean=probabilities)
def test_weight_of_evidence_is_its_definition(p: float, mean: float, n: int, classes: int) -> None:
    change = float(np.float64(mean) - np.float64(p))
    expected = by_definition(p, p + change, n, classes)
    assert weight_of_evidence(p, change, n, classes) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize(("p", "mean"), [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_evidence_is_finite_at_certainty(p: float, mean: float, classes: int) -> None:
    found = float(weight_of_evidence(p, mean - p, 140, classes))
    assert isfinite(found)
    assert np.sign(found) == np.sign(p - mean)
    assert found == pytest.approx(by_definition(p, mean, 140, classes))


def test_small_effects_keep_their_precision() -> None:
    p, change = 0.3, 1e-13
    slope = -140 / 142 / (Fraction(3, 10) * 140 + 1) * 142 / (1 - (Fraction(3, 10) * 140 + 1) / 142)
    found = float(weight_of_evidence(p, change, 140, 2))
    assert found == pytest.approx(float(slope) * change / np.log(2), rel=1e-6)


@given(probabilities)
def test_two_classes_have_opposite_evidence(p: float) -> None:
    change = (0.5 - p) / 3
    one = weight_of_evidence(p, change, 50, 2)
    other = weight_of_evidence(1 - p, -change, 50, 2)
    assert one == pytest.approx(-other, abs=1e-9)


@given(st.floats(0.05, 0.95), st.floats(-0.04, 0.04))
def test_slope_is_the_derivative(p: float, change: float) -> None:
    step = 1e-6
    numeric = (
        weight_of_evidence(p, change + step, 140, 2) - weight_of_evidence(p, change - step, 140, 2)
    ) / (2 * step)
    assert weight_of_evidence_slope(p, change, 140, 2) == pytest.approx(numeric, rel=1e-5)


@given(probabilities, st.floats(0.1, 10), probabilities)
def test_matched_draws_have_shifted_odds(p: float, ratio: float, draw: float) -> None:
    """The oracle shifts the log-odds themselves."""
    evidence, target = Evidence(2, 10**6, 10), Target.parse("probability:1")

    def odds(value: float) -> float:
        q = float(laplace_correction(value, 10**6, 10))
        return q / (1 - q)

    shifted = ratio * odds(p) / (1 + ratio * odds(p))
    wanted = (shifted * (10**6 + 10) - 1) / 10**6
    found = wanted + evidence.matched(target, p, np.array(draw - p), wanted)
    assert odds(found) == pytest.approx(ratio * odds(draw), rel=1e-6)
    assert evidence.matched(target, p, np.array(0.0), wanted) == 0
    logit = Target.parse("logit:1")
    assert evidence.matched(logit, p, np.array(draw - p), wanted) == draw - p


@given(st.floats(0.05, 0.95), st.floats(-2, 2), st.floats(-0.04, 0.04), st.floats(-0.01, 0.01))
def test_evidence_and_its_shift_add_up(
    reference: float, at: float, change: float, shift: float
) -> None:
    evidence, target = Evidence(2, 1000, 5), Target.parse("probability:1")
    where, none = np.array(at), np.array(0.04)
    whole, noise = evidence.linearised(reference, np.array(change + shift), none, where)
    part, _ = evidence.linearised(reference, np.array(change), none, where)
    rest, same = evidence.of_shift(target, reference, np.array(shift), none, where)
    assert part + rest == pytest.approx(whole, abs=1e-9) and same == pytest.approx(noise)


def test_laplace_correction() -> None:
    assert laplace_correction(0.0, 8, 2) == pytest.approx(0.1)
    assert laplace_correction([0.0, 1.0], 8, 2).sum() == pytest.approx(1)


def test_activation_difference_is_what_the_window_added() -> None:
    assert activation_difference(np.array([-2.0, 1.0])) == pytest.approx([2.0, -1.0])
