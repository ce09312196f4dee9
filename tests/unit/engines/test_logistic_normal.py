"""Moments of the logistic-normal distribution against adaptive quadrature."""

import numpy as np
import pytest
from scipy import integrate
from scipy.special import expit
from scipy.stats import norm

from preddiff.engines.logistic_normal import moments


def by_quadrature(mean: float, deviation: float, power: int) -> float:
    """Adaptive quadrature, told where the sigmoid and the density bend."""
    bend = np.clip(-mean / deviation, -11, 11)
    value, _ = integrate.quad(
        lambda z: expit(mean + deviation * z) ** power * norm.pdf(z),
        -12,
        12,
        points=[bend - 3 / deviation, bend, bend + 3 / deviation, 0] if deviation > 3 else [0.0],
        epsabs=1e-13,
        epsrel=1e-12,
        limit=500,
    )
    return float(value)


@pytest.mark.parametrize("deviation", [0.01, 0.1, 0.11, 0.25, 0.3, 0.5, 0.7, 1.0, 1.01, 2, 5, 30])
@pytest.mark.parametrize("mean", [-20.0, -6.0, -1.5, 0.0, 0.4, 3.0, 12.0])
def test_moments_to_nine_digits(mean: float, deviation: float) -> None:
    first, second = moments(np.array([mean]), np.array([deviation]))
    assert first[0] == pytest.approx(by_quadrature(mean, deviation, 1), abs=1e-9)
    assert second[0] == pytest.approx(by_quadrature(mean, deviation, 2), abs=1e-9)


def test_no_deviation_is_the_sigmoid_itself() -> None:
    mean = np.linspace(-5, 5, 11)
    first, second = moments(mean, np.zeros(11))
    assert np.allclose(first, expit(mean), atol=1e-15)
    assert np.allclose(second, expit(mean) ** 2, atol=1e-15)


def test_deviations_of_all_sizes_mix_and_share_leading_axes() -> None:
    deviation = np.array([0.05, 0.2, 0.4, 0.9, 4.0, 0.0])
    mean = np.array([[0.5] * 6, [-2.0] * 6])
    first, second = moments(mean, deviation)
    for row in range(2):
        for column in range(6):
            one = moments(mean[row, [column]], deviation[[column]])
            assert first[row, column] == one[0][0]
            assert second[row, column] == one[1][0]
