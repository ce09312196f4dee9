"""What engines have in common: moments over draws."""

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preddiff.engines.base import over_draws


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_moments_of_draws_are_those_of_the_standard_library(draws: int, seed: int) -> None:
    changes = np.random.default_rng(seed).normal(size=(3, draws, 2))
    by_array = over_draws(changes)
    by_tensor = over_draws(torch.from_numpy(changes))
    for window in range(3):
        for target in range(2):
            values = changes[window, :, target].tolist()
            expected = statistics.fmean(values), statistics.variance(values)
            for mean, variance in (by_array, by_tensor):
                found = float(mean[window, target]), float(variance[window, target])
                assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_single_draw_has_no_variance() -> None:
    changes = np.random.default_rng(0).normal(size=(3, 1, 2))
    for mean, variance in (over_draws(changes), over_draws(torch.from_numpy(changes))):
        assert np.array_equal(np.asarray(mean), changes[:, 0])
        assert not np.asarray(variance).any()
