"""Packed arrays: how far values may be from what was packed, and what is not computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from preddiff.pages.packing import pack_errors, pack_intensities, pack_relevance
from tests.unit.pages.decoding import values_of

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
SIGNED = st.floats(-1e6, 1e6, width=32) | st.just(np.nan)
POSITIVE = st.floats(0, 1e6, width=32) | st.just(np.nan)


def decoded(packed) -> np.ndarray:
    return values_of(packed.text(), packed.about())


@given(arrays.arrays(np.float32, SHAPES, elements=SIGNED))
def test_relevance_is_within_half_a_step_of_the_largest(values) -> None:
    packed = pack_relevance(values)
    found = decoded(packed)
    assert found.shape == values.shape
    assert (np.isnan(found) == np.isnan(values)).all()
    largest = np.nanmax(np.abs(values), initial=0)
    assert packed.limit == largest
    bound = largest / 65534 * (1 + 1e-9)
    assert (np.abs(found - values)[~np.isnan(values)] <= bound).all()


@given(arrays.arrays(np.float32, SHAPES, elements=POSITIVE))
def test_roots_of_errors_are_within_half_a_step_of_the_largest(values) -> None:
    found = decoded(pack_errors(values))
    assert (np.isnan(found) == np.isnan(values)).all()
    largest = np.sqrt(np.nanmax(values, initial=0).astype(np.float64))
    difference = np.abs(np.sqrt(found) - np.sqrt(values.astype(np.float64)))
    assert (difference[~np.isnan(values)] <= largest / 508 * (1 + 1e-9)).all()


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32)))
def test_intensities_are_within_half_of_255_steps(values) -> None:
    found = decoded(pack_intensities(values))
    span = np.ptp(values.astype(np.float64)) if values.size else 0
    # An offset is exact to the last bits of its own size.
    assert np.abs(found - values).max(initial=0) <= span / 510 + 1e-9 * np.abs(values).max(
        initial=0
    )


@given(arrays.arrays(np.uint8, SHAPES))
def test_bytes_are_kept(values) -> None:
    assert (decoded(pack_intensities(values)) == values).all()


@pytest.mark.parametrize("largest", [1e-30, 1e-6, 1, 1e30])
def test_the_largest_relevance_is_exact_on_any_scale(largest: float) -> None:
    values = np.array([-largest, 0, largest / 2, np.nan], np.float32)
    found = decoded(pack_relevance(values))
    assert found[[0, 1]] == pytest.approx(values[[0, 1]], rel=1e-6)
    assert np.isnan(found[3])


def test_a_small_error_beside_a_large_one_keeps_its_size() -> None:
    values = np.array([1, 0.01], np.float32)
    assert decoded(pack_errors(values)) == pytest.approx(values, rel=0.04)


def test_equal_arrays_give_equal_text(generator) -> None:
    values = generator.normal(size=(4, 3, 2))
    assert pack_relevance(values).text() == pack_relevance(values.copy(order="F")).text()
