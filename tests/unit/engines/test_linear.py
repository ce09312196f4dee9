"""The linear engines: what they refuse."""

import numpy as np
import pytest

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines.base import Engine
from preddiff.engines.linear import Exact, Samples
from preddiff.errors import InputError
from preddiff.samplers.base import Sampler
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Windows
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
