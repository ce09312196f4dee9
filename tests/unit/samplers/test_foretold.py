"""What surroundings foretell, against dense inverses, draws and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.errors import InputError
from preddiff.samplers.foretold import centre_of, foretold, percent_of
from preddiff.samplers.gaussian import (
    Grid,
    LocatedPatchGaussian,
    Moments,
    PatchGaussian,
    patches_at,
)
from tests.conftest import fitted, smooth


def gaussian_of(covariance: np.ndarray, l: int, channels: int = 1) -> PatchGaussian:
    return PatchGaussian(np.zeros(len(covariance)), covariance, l, channels, 100, 0.0)


def exponential(l: int, dimensions: int, length: float) -> np.ndarray:
    """Covariance exp(-|a - b|_1 / length) of the voxels of a patch."""
    places = np.indices((l,) * dimensions).reshape(dimensions, -1)
    return np.exp(-np.abs(places[:, :, None] - places[:, None]).sum(axis=0) / length)


def random_covariance(generator: np.random.Generator, p: int) -> np.ndarray:
    factors = generator.normal(size=(p, p))
    return factors @ factors.T / p + 0.05 * np.eye(p)


def window_of(k: int, l: int, dimensions: int, channels: int) -> np.ndarray:
    """Numbers of the window's voxels at the centre of the patch."""
    numbers = np.arange(channels * l**dimensions).reshape(channels, *(l,) * dimensions)
    margin = (l - k) // 2
    return numbers[(slice(None), *(slice(margin, margin + k),) * dimensions)].reshape(-1)


@pytest.mark.parametrize(
    ("k", "l", "dimensions", "channels"),
    [
        (1, 3, 1, 1), (1, 3, 2, 1), (2, 4, 2, 3), (3, 3, 2, 1), (1, 1, 2, 2), (1, 3, 3, 1),
        (2, 4, 3, 2),
    ],
)  # fmt: skip
def test_shares_are_those_of_the_inverse_of_the_covariance(
    generator: np.random.Generator, k: int, l: int, dimensions: int, channels: int
) -> None:
    covariance = random_covariance(generator, channels * l**dimensions)
    found = foretold(gaussian_of(covariance, l, channels), k)
    window = window_of(k, l, dimensions, channels)
    # What remains is the inverse of the window's block of the precision.
    remaining = np.linalg.inv(np.linalg.inv(covariance)[np.ix_(window, window)])
    assert found.remaining == pytest.approx(np.trace(remaining) / len(window), rel=1e-9)
    assert found.variance == pytest.approx(np.diag(covariance)[window].mean())
    assert found.share_remaining == pytest.approx(found.remaining / found.variance)
    assert found.share + found.share_remaining == pytest.approx(1)
    assert found.cells == pytest.approx([found.share_remaining])


def test_shares_are_those_of_regression_on_draws(generator: np.random.Generator) -> None:
    covariance = random_covariance(generator, 16)
    draws = generator.multivariate_normal(np.zeros(16), covariance, size=200_000)
    window = window_of(2, 4, 2, 1)
    x, y = np.delete(draws, window, axis=1), draws[:, window]
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    expected = residuals.var(axis=0).sum() / y.var(axis=0).sum()
    found = foretold(gaussian_of(covariance, 4), 2)
    assert found.share_remaining == pytest.approx(expected, rel=0.01)


def test_nothing_is_foretold_of_independent_voxels() -> None:
    found = foretold(gaussian_of(np.diag(np.arange(1.0, 26.0)), 5), 1)
    assert (found.share, found.share_remaining, found.warning) == (0, 1, "")
    assert foretold(gaussian_of(np.eye(9), 3), 3).share_remaining == 1


@given(st.floats(0.1, 1e5))
def test_a_voxel_of_a_markov_chain_has_a_closed_form(length: float) -> None:
    # Between neighbours with correlation r on both sides, (1 - r^2) / (1 + r^2) remains.
    r = math.exp(-1 / length)
    found = foretold(gaussian_of(exponential(5, 1, length), 5), 1)
    expected = -math.expm1(-2 / length) / (1 + r**2)
    assert found.share_remaining == pytest.approx(expected, rel=1e-7)


def test_shares_near_one_are_right() -> None:
    # x_w = x_o + noise.
    for noise in (1e-2, 1e-4, 1e-6):
        covariance = np.array([[1, 1, 1], [1, 1 + noise, 1], [1, 1, 1 + noise]], dtype=float)
        covariance[0, 0] += noise
        found = foretold(gaussian_of(covariance, 3), 1)
        # The mean of two noisy values of a common part of variance 1, and the voxel's own noise.
        expected = (noise + noise / (2 + noise)) / (1 + noise)
        assert found.share_remaining == pytest.approx(expected, rel=1e-6)


def test_what_rounding_hides_is_positive() -> None:
    # What remains, 1e-15, is less than the error of the linear algebra.
    shares = [foretold(gaussian_of(exponential(5, 1, 1e15), 5), k).share_remaining for k in (1, 3)]
    assert all(0 < share < 1e-14 for share in shares)
    assert percent_of(min(shares)).startswith("99.9999999999999")


@given(st.integers(0, 2**32 - 1))
def test_wider_surroundings_foretell_more(seed: int) -> None:
    covariance = random_covariance(np.random.default_rng(seed), 49)
    gaussian = gaussian_of(covariance, 7)
    shares = [foretold(gaussian, 1, l).share for l in (1, 3, 5, 7)]
    assert shares[0] == 0
    assert shares == sorted(shares)


def test_smoother_items_and_smaller_windows_are_foretold_better() -> None:
    shares = [
        [foretold(gaussian_of(exponential(6, 2, s), 6), k).share for k in (4, 2)] for s in (1, 9)
    ]
    assert shares[0][0] < shares[0][1] < shares[1][1]
    assert shares[0][0] < shares[1][0] < shares[1][1]


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_centre_of_patches_is_fitted_as_if_alone(
    generator: np.random.Generator, shrinkage: float | None, channels: int
) -> None:
    item = smooth(generator, (1, channels, 30, 30))[0]
    starts = generator.integers(0, 24, size=(400, 2))
    outer = PatchGaussian.from_moments(
        Moments.of(patches_at(item, 6, starts)), 6, channels, shrinkage
    )
    for l in (1, 3, 4, 6):
        inner = Moments.of(patches_at(item, l, starts + (6 - l) // 2))
        expected = PatchGaussian.from_moments(inner, l, channels, shrinkage)
        found = centre_of(outer, l)
        assert (found.l, found.channels, found.patches) == (l, channels, 400)
        assert np.allclose(found.mean, expected.mean)
        if shrinkage != 1:
            assert np.allclose(found.covariance, expected.covariance, rtol=1e-9, atol=1e-9)
            assert found.shrinkage == pytest.approx(expected.shrinkage)
        if l % 2:
            expected_share = foretold(expected, 1).share_remaining
            assert foretold(outer, 1, l).share_remaining == pytest.approx(expected_share)


def test_cells_are_averaged_by_their_variances(generator: np.random.Generator) -> None:
    cells = {
        number: (np.zeros(27), scale * exponential(3, 3, length))
        for number, (scale, length) in enumerate([(1.0, 0.5), (4.0, 10.0)])
    }
    located = LocatedPatchGaussian(Grid((9, 9, 9), (2, 1, 1)), cells, 3, 1, (0, 0, 0))
    found = foretold(located, 1)
    alone = [foretold(gaussian_of(covariance, 3), 1) for _, covariance in cells.values()]
    assert found.variance == pytest.approx(2.5)
    assert found.remaining == pytest.approx(sum(one.remaining for one in alone) / 2)
    assert found.cells == pytest.approx([one.share_remaining for one in alone])


def test_windows_that_do_not_fit_are_refused(generator: np.random.Generator) -> None:
    gaussian = fitted(smooth(generator, (20, 1, 9, 9)), 5)
    with pytest.raises(InputError, match="l - k = 3 is odd"):
        foretold(gaussian, 2)
    with pytest.raises(InputError, match="l = 5 is smaller than k = 7"):
        foretold(gaussian, 7)
    with pytest.raises(InputError, match="l = 7: the Gaussian was fitted for l = 5"):
        foretold(gaussian, 3, 7)


def test_the_warning_names_the_share_and_what_to_do() -> None:
    found = foretold(gaussian_of(exponential(5, 1, 1e4), 5), 1)
    assert "99.9900% of the variance of a window of side k = 1 (l = 5)" in found.warning
    assert "Choose a larger k" in found.warning


@pytest.mark.parametrize(
    ("remaining", "text"),
    [(1, "0%"), (0.5, "50%"), (0.067, "93.3%"), (0.0108, "98.9%"), (4e-5, "99.9960%")],
)
def test_percentages_are_told_from_all(remaining: float, text: str) -> None:
    assert percent_of(remaining) == text
