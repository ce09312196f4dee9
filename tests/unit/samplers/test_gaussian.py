"""The patch Gaussian against dense linear algebra and scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import oas

from preddiff.errors import InputError
from preddiff.samplers.gaussian import (
    Grid,
    LocatedPatchGaussian,
    Moments,
    PatchGaussian,
    condition,
    draw_patches,
    located_moments,
    oracle_approximating_shrinkage,
)
from tests.conftest import fitted, smooth


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_merged_moments_are_those_of_all_vectors(seed: int, sizes: list[int]) -> None:
    generator = np.random.default_rng(seed)
    parts = [generator.normal(3, 2, size=(n, 4)) for n in sizes]
    merged = Moments.of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(Moments.of(part))
    everything = np.concatenate(parts)
    assert merged.count == len(everything)
    assert np.allclose(merged.mean, everything.mean(axis=0))
    assert np.allclose(merged.covariance, np.cov(everything.T, bias=True))


def test_shrinkage_is_scikit_learns(generator: np.random.Generator) -> None:
    x = generator.normal(size=(60, 20)) @ generator.normal(size=(20, 20))
    expected, rho = oas(x)
    moments = Moments.of(x)
    assert oracle_approximating_shrinkage(moments.covariance, 60) == pytest.approx(rho)
    gaussian = PatchGaussian.from_moments(moments, l=20)
    assert np.allclose(gaussian.covariance, expected)


@pytest.mark.parametrize(
    ("shape", "k", "l"), [((30, 1, 9, 9), 2, 4), ((30, 3, 6, 6), 1, 3), ((20, 1, 6, 6, 6), 1, 3)]
)
def test_conditioning_at_every_position_is_that_of_the_precision_matrix(
    generator: np.random.Generator, shape: tuple[int, ...], k: int, l: int
) -> None:
    gaussian = fitted(smooth(generator, shape), l)
    dimensions = len(shape) - 2
    precision = np.linalg.inv(gaussian.covariance)
    for position in itertools.product(range(l - k + 1), repeat=dimensions):
        found = gaussian.conditional(0, k, position)
        box = np.zeros((shape[1],) + (l,) * dimensions, dtype=bool)
        for voxel in itertools.product(*(range(p, p + k) for p in position)):
            box[(slice(None), *voxel)] = True
        w = box.reshape(-1)
        # For a Gaussian with precision P: covariance P_ww^-1, mean m_w - P_ww^-1 P_wo (x_o - m_o).
        covariance = np.linalg.inv(precision[np.ix_(w, w)])
        weights = -covariance @ precision[np.ix_(w, ~w)]
        assert np.array_equal(found.inside, w)
        assert np.allclose(found.covariance, covariance, atol=1e-8)
        assert np.allclose(found.weights, weights, atol=1e-6)
        assert np.allclose(found.offset, gaussian.mean[w] - weights @ gaussian.mean[~w], atol=1e-6)
        assert np.allclose(found.factor @ found.factor.T, covariance, atol=1e-8)


def test_without_surroundings_the_gaussian_itself_comes_back(
    generator: np.random.Generator,
) -> None:
    gaussian = fitted(smooth(generator, (20, 1, 8, 8)), 3)
    found = gaussian.conditional(0, 3, (0, 0))
    assert found.weights.shape == (9, 0)
    assert np.array_equal(found.covariance, gaussian.covariance)
    assert np.array_equal(found.offset, gaussian.mean)


def test_a_singular_covariance_is_refused() -> None:
    with pytest.raises(InputError, match="singular"):
        condition(np.zeros(3), np.ones((3, 3)), np.array([True, False, False]))


def test_constant_items_are_refused() -> None:
    with pytest.raises(InputError, match="same constant"):
        PatchGaussian.fit(np.zeros((5, 1, 6, 6)), l=3)


def test_patches_that_do_not_fit_are_refused(generator: np.random.Generator) -> None:
    with pytest.raises(InputError, match="l = 7 do not fit"):
        draw_patches(np.zeros((1, 6, 9)), 7, 3, generator)


def test_patches_come_from_all_places(generator: np.random.Generator) -> None:
    item = np.arange(2 * 4 * 5).reshape(2, 4, 5).astype(float)
    patches = draw_patches(item, 3, 400, generator).reshape(-1, 2, 3, 3)
    corners = {int(patch[0, 0, 0]) for patch in patches}
    assert corners == {5 * row + column for row in range(2) for column in range(3)}
    for patch in patches[:20]:
        row, column = divmod(int(patch[0, 0, 0]), 5)
        assert np.array_equal(patch, item[:, row : row + 3, column : column + 3])


@given(st.integers(1, 40), st.integers(1, 40))
def test_cells_cut_an_axis_evenly(length: int, cells: int) -> None:
    if cells > length:
        with pytest.raises(InputError, match="does not fit"):
            Grid((length,), (cells,))
        return
    found = Grid((length,), (cells,)).cell_of(np.arange(length)[:, None])
    sizes = np.bincount(found, minlength=cells)
    assert (np.diff(found) >= 0).all()
    assert sizes.max() - sizes.min() <= 1


def test_a_cell_without_patches_falls_back_to_the_global_gaussian(
    generator: np.random.Generator,
) -> None:
    everywhere = fitted(smooth(generator, (20, 1, 8, 8)), 3)
    none = Moments(0, np.zeros(9), np.zeros((9, 9)))
    found = located_moments(none, everywhere, strength=50)
    assert np.allclose(found.mean, everywhere.mean)
    assert np.allclose(found.covariance, everywhere.covariance)


def test_a_cell_with_many_patches_keeps_its_own_gaussian(generator: np.random.Generator) -> None:
    everywhere = fitted(smooth(generator, (20, 1, 8, 8)), 3)
    own = Moments.of(generator.normal(5, 3, size=(100_000, 9)))
    found = located_moments(own, everywhere, strength=9)
    assert np.allclose(found.mean, own.mean, atol=1e-2)
    assert np.allclose(found.covariance, own.covariance, atol=5e-2)


def test_a_cell_that_was_not_fitted_is_named() -> None:
    located = LocatedPatchGaussian(Grid((9, 9), (3, 3)), {}, 3, 1, (0, 0))
    with pytest.raises(InputError, match="not fitted in cell 4"):
        located.conditional(4, 1, (1, 1))


@pytest.mark.parametrize("shrinkage", [None, 0.1])
def test_units_of_channels_do_not_matter(
    generator: np.random.Generator, shrinkage: float | None
) -> None:
    """Shrinkage must not put the variance of a channel in large units on one in small units."""
    items = smooth(generator, (40, 2, 9, 9))
    units = np.array([0.001, 3000.0]).reshape(2, 1, 1)
    plain = PatchGaussian.fit(items, l=4, patches=2000, shrinkage=shrinkage)
    scaled = PatchGaussian.fit(items * units, l=4, patches=2000, shrinkage=shrinkage)
    per_voxel = np.repeat(units.ravel(), 16)
    assert scaled.shrinkage == pytest.approx(plain.shrinkage, rel=1e-6)
    expected = plain.covariance * np.outer(per_voxel, per_voxel)
    assert np.allclose(scaled.covariance / expected, 1, rtol=1e-6)


def test_a_constant_channel_is_shrunk_like_the_others(generator: np.random.Generator) -> None:
    items = smooth(generator, (40, 2, 9, 9))
    items[:, 1] = 5
    gaussian = PatchGaussian.fit(items, l=4, patches=2000)
    assert np.isfinite(gaussian.conditional(0, 2, (1, 1)).factor).all()
