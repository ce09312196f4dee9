"""What engines have in common: moments over draws, and draws in parts."""

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines import base
from preddiff.engines.base import over_draws, over_parts
from preddiff.engines.dense import Dense
from preddiff.engines.linear import Samples
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler, generator
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Box, Windows
from tests.conftest import fitted, smooth


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


SHAPE = (2, 5, 6, 5)
WINDOWS = Windows(SHAPE[1:], 2)
ITEMS = smooth(np.random.default_rng(1), (30, *SHAPE))
BLOCK = Box(3, (slice(1, 4), slice(0, 5), slice(0, 3)))
S, SEED = 4, 5


def sampler(name: str) -> Sampler:
    return {
        "conditional": Conditional(fitted(ITEMS, 4)),
        "marginal": Marginal(ITEMS, list("abcdefghijklmnopqrstuvwxyzABCD")),
        "grey": Grey(0.5),
    }[name]


def parts_of(source: Sampler) -> list[tuple[Box, torch.Tensor]]:
    x = torch.from_numpy(ITEMS[0])
    return over_parts(lambda *both: both, source, x, "a", WINDOWS, BLOCK, S, SEED)


@pytest.mark.parametrize("name", ["conditional", "marginal", "grey"])
def test_a_block_that_fits_is_drawn_at_once(name: str) -> None:
    ((part, draws),) = parts_of(sampler(name))
    source = generator(SEED, "a", BLOCK)
    expected = sampler(name).draw(torch.from_numpy(ITEMS[0]), "a", WINDOWS, BLOCK, S, source)
    assert part == BLOCK and draws.equal(expected)


# A window of this shape takes 4 x 16 x 4 bytes.
@pytest.mark.parametrize("memory", [1, 1100, 2500])
@pytest.mark.parametrize("name", ["conditional", "marginal", "grey"])
def test_draws_keep_to_their_memory_and_differ_from_part_to_part(
    name: str, memory: int, monkeypatch
) -> None:
    monkeypatch.setattr(base, "DRAWS_IN_MEMORY", memory)
    found = parts_of(sampler(name))
    assert sum(part.size for part, _ in found) == BLOCK.size and len(found) > 1
    for part, draws in found:
        assert draws.nbytes <= memory or part.size == 1
    if name != "grey":
        assert not found[0][1][0].equal(found[1][1][0])


@pytest.mark.parametrize("name", ["conditional", "marginal", "grey"])
def test_engines_agree_on_blocks_that_are_drawn_in_parts(name: str, monkeypatch) -> None:
    weights = np.random.default_rng(2).normal(size=SHAPE) * 0.4
    linear = LinearClassifier(weights, 0.3, ("no", "yes"), 40, (0, 0, 0))

    def nodes(batch: torch.Tensor, item: str) -> torch.Tensor:
        logit = torch.from_numpy(linear.logit(batch.numpy()))
        return torch.stack([torch.sigmoid(logit), logit], dim=1)

    targets = [Target.parse(text) for text in ("probability:yes", "logit:yes")]
    engines = (
        Dense(nodes, sampler(name), WINDOWS, S, SEED, batch_size=7),
        Samples(linear, sampler(name), WINDOWS, targets, S, SEED),
    )
    monkeypatch.setattr(base, "DRAWS_IN_MEMORY", 1100)
    dense, samples = [engine.expectations(ITEMS[:2], ["a", "b"], BLOCK) for engine in engines]
    assert samples.reference == pytest.approx(dense.reference, abs=1e-9)
    assert samples.change == pytest.approx(dense.change, abs=1e-5)
    assert samples.variance == pytest.approx(dense.variance, abs=1e-5)
