"""The linear engines: what they refuse, and what they ask of samplers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines import linear
from preddiff.engines.base import Engine
from preddiff.engines.linear import Exact, Samples
from preddiff.errors import InputError
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler
from preddiff.samplers.exact_form import window_sums
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Block, Windows
from tests.conftest import fitted, smooth

SHAPE = (1, 7, 6)
WINDOWS = Windows(SHAPE[1:], 2)
TARGETS = [Target("probability", "yes"), Target("logit", "no")]
ITEMS = smooth(np.random.default_rng(1), (30, *SHAPE))
NAMES = [f"item {n}" for n in range(len(ITEMS))]


def classifier() -> LinearClassifier:
    weights = np.random.default_rng(2).normal(size=SHAPE) * 0.4
    return LinearClassifier(weights, 0.3, ("no", "yes"), 40, (0, 0))


def samplers() -> dict[str, Sampler]:
    return {
        "conditional": Conditional(fitted(ITEMS, 4)),
        "marginal": Marginal(ITEMS, NAMES),
        "grey": Grey(0.25),
    }


def engines(sampler: Sampler) -> dict[str, Engine]:
    return {
        "exact": Exact(classifier(), sampler, WINDOWS, TARGETS),
        "samples": Samples(classifier(), sampler, WINDOWS, TARGETS, 4, 5),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("engine", ["exact", "samples"])
@pytest.mark.parametrize("sampler", ["conditional", "marginal", "grey"])
def test_results_that_are_not_finite_are_refused(sampler: str, engine: str, value: float) -> None:
    x = ITEMS[:3].copy()
    x[1, 0, 3, 3] = value
    one = engines(samplers()[sampler])[engine]
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=r"'item 1'.* not finite"):
        one.expectations(x, NAMES[:3], WINDOWS.everything)


class Noise:
    """A user's sampler: independent normal noise in place of a window."""

    random = True

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        size = (block.size, samples, len(x) * windows.k ** (x.ndim - 1))
        return 0.2 + 0.5 * torch.randn(size, generator=generator)


class NormalNoise(Noise):
    """The same, which also knows its exact form."""

    def normal_shift(self, weights: np.ndarray, windows: Windows, block: Block):
        own = window_sums(weights, windows, block)
        offset = 0.2 * own.sum(axis=1)
        return -own, offset, 0.5 * np.sqrt((own * own).sum(axis=1))


def test_a_sampler_without_an_exact_form_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="Noise has no exact form: set the estimator to samples"):
        Exact(classifier(), Noise(), WINDOWS, TARGETS)


def test_clipped_draws_have_no_exact_form() -> None:
    clipped = Conditional(fitted(ITEMS, 4), (0.0, 1.0))
    engine = Exact(classifier(), clipped, WINDOWS, TARGETS)
    with pytest.raises(InputError, match="clipped draws have no exact form"):
        engine.expectations(ITEMS[:1], NAMES[:1], WINDOWS.everything)


def test_any_sampler_may_bring_its_exact_form() -> None:
    exact = Exact(classifier(), NormalNoise(), WINDOWS, TARGETS)
    drawn = Samples(classifier(), NormalNoise(), WINDOWS, TARGETS, 20_000, 5)
    found, many = (
        engine.expectations(ITEMS[:1], NAMES[:1], WINDOWS.everything) for engine in (exact, drawn)
    )
    assert (np.abs(found.change - many.change) < 5 * np.sqrt(many.variance / 20_000)).all()
    assert found.variance == pytest.approx(many.variance, rel=0.1)


@pytest.mark.parametrize("memory", [1, 5000])
def test_sums_of_many_donors_are_taken_in_parts(memory: int, monkeypatch) -> None:
    engine = engines(samplers()["marginal"])["exact"]
    expected = engine.expectations(ITEMS[:2], NAMES[:2], WINDOWS.everything)
    monkeypatch.setattr(linear, "_SUMS_IN_MEMORY", memory)
    done: list[float] = []
    found = engine.expectations(ITEMS[:2], NAMES[:2], WINDOWS.everything, done.append)
    assert len(done) > 1 and sum(done) == 2 * WINDOWS.everything.size
    for name in ("reference", "change", "variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)


def test_donors_may_be_stored_in_other_units() -> None:
    stored = np.round((ITEMS - ITEMS.min()) / np.ptp(ITEMS) * 255).astype(np.uint8)
    by_scale, plain = (
        Exact(classifier(), sampler, WINDOWS, TARGETS).expectations(
            ITEMS[:2], NAMES[:2], WINDOWS.everything
        )
        for sampler in (Marginal(stored, NAMES, 0.25), Marginal(stored / 4, NAMES))
    )
    assert by_scale.change == pytest.approx(plain.change, abs=1e-12)
    assert by_scale.variance == pytest.approx(plain.variance, abs=1e-12)
