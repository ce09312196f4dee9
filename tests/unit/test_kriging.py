"""Kriging against dense linear algebra, and its tabulated errors against exact variances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preddiff.kriging import Correlation, Kriging, LatticeErrors, smoothed


def covariance(shape, correlation, amplitude):
    """Covariances of all points of a grid, one by one."""
    points = np.argwhere(np.ones(shape))
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    x = np.sqrt(3) * distance / correlation.length
    matern = (1 + x) * np.exp(-x)
    matrix = (1 - correlation.nugget) * matern + correlation.nugget * np.eye(len(points))
    return matrix * np.outer(amplitude.reshape(-1), amplitude.reshape(-1))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(23,), (9, 11), (4, 5, 6)]), st.integers(0, 2**32 - 1))
def test_predicts_as_dense_linear_algebra_does(shape, seed):
    random = np.random.default_rng(seed)
    correlation = Correlation(random.uniform(1, 5), random.uniform(0.01, 0.3))
    amplitude = random.uniform(0.2, 3, shape)
    noise = random.uniform(0.01, 1, shape)
    observed = random.random(shape) < 0.4
    observed.reshape(-1)[0] = True
    values = random.normal(size=shape) * amplitude

    found = Kriging(shape, correlation).predict(values, observed, amplitude, noise)

    every = covariance(shape, correlation, amplitude)
    at = np.flatnonzero(observed)
    system = every[np.ix_(at, at)] + np.diag(noise.reshape(-1)[at])
    expected = every[:, at] @ np.linalg.solve(system, values.reshape(-1)[at])
    # Correlations are periodic on the torus, which is only approximate.
    assert np.abs(found.reshape(-1) - expected).max() < 0.03 * np.abs(expected).max()


def test_values_outside_of_the_observed_points_do_not_matter():
    random = np.random.default_rng(0)
    shape, ones = (12, 12), np.ones((12, 12))
    observed = random.random(shape) < 0.3
    values = random.normal(size=shape)
    other = np.where(observed, values, 1e9)
    kriging = Kriging(shape, Correlation(4, 0.02))
    one = kriging.predict(values, observed, ones, 0.1 * ones)
    assert np.array_equal(one, kriging.predict(other, observed, ones, 0.1 * ones))


@pytest.mark.parametrize(
    ("shape", "spacing", "k"), [((48,), 4, 5), ((48,), 1, 6), ((24, 24), 4, 5), ((24, 24), 3, 4)]
)
@pytest.mark.parametrize("ratio", [1e-3, 0.1, 3.0])
def test_errors_on_a_lattice_are_those_of_exact_kriging(shape, spacing, k, ratio):
    """The oracle inverts matrices, on a grid that is much longer than correlations."""
    correlation = Correlation(4.0, 0.05)
    every = covariance(shape, correlation, np.ones(shape))
    on_lattice = np.zeros(shape, bool)
    on_lattice[tuple(slice(spacing // 2, None, spacing) for _ in shape)] = True
    at = np.flatnonzero(on_lattice)
    system = every[np.ix_(at, at)] + ratio * np.eye(len(at))
    posterior = every - every[:, at] @ np.linalg.solve(system, every[at])

    first = [n // 2 - spacing for n in shape]
    places = np.ndindex(*[spacing] * len(shape))
    means = []
    for place in places:
        box = np.zeros(shape)
        box[tuple(slice(f + p, f + p + k) for f, p in zip(first, place, strict=True))] = 1
        weights = box.reshape(-1) / box.sum()
        means.append(weights @ posterior @ weights)
    values = np.diag(posterior).reshape(shape)[tuple(slice(f, f + spacing) for f in first)]

    errors = LatticeErrors(correlation, k, len(shape))
    density = np.array([spacing ** -float(len(shape))])
    assert errors.of_means(density, np.array([ratio]))[0] == pytest.approx(np.mean(means), rel=0.03)
    assert errors.of_values(density, np.array([ratio]))[0] == pytest.approx(values.mean(), rel=0.03)


def test_noise_is_a_part_of_the_error_that_grows_with_it():
    errors = LatticeErrors(Correlation(14, 0.02), 10, 2)
    density = np.full(5, 0.02)
    ratio = np.geomspace(1e-4, 1, 5)
    noise, total = errors.of_means_from_noise(density, ratio), errors.of_means(density, ratio)
    assert (noise < total).all()
    assert (np.diff(total) > 0).all()
    assert noise[0] < 0.02 * total[0]


def test_smoothed_averages_the_observed_points_only():
    observed = np.zeros((30, 30), bool)
    observed[5:10, 5:10] = True
    observed[20:25, 20:25] = True
    values = np.where(observed, 1.0, 1e6)
    values[20:25, 20:25] = 3.0
    found = smoothed(values, observed, 2.0, 1e-3)
    assert found[7, 7] == pytest.approx(1, abs=0.01)
    assert found[22, 22] == pytest.approx(3, abs=0.01)
    assert found.min() >= 1 and found.max() <= 3
