"""Levels in bfloat16: the shift of rounding is corrected, and its error is part of what is said."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from preddiff.classifiers.network import Network
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import Precision
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.drawn import Drawn
from preddiff.engines.base import no_progress
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.refined import Level, levels
from preddiff.evidence import Evidence
from preddiff.refinement import Refinement
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.samplers.grey import Grey
from preddiff.targets import Target
from preddiff.windows import Windows

TARGETS = (Target.parse("probability:1"), Target.parse("logit:2"))
WINDOWS = Windows((26, 22), 5)
EVIDENCE = Evidence(2, 1000, 3)


IMAGES = np.random.default_rng(3).random((40, 2, *WINDOWS.space), dtype=np.float32)


@pytest.fixture(scope="module")
def conditional() -> Conditional:
    return Conditional(PatchGaussian.fit(IMAGES, l=7, patches=4000))


def engine(precision: Precision, sampler: Sampler, seed: int) -> Incremental:
    """Of a network whose units are large beside what changes them, so that rounding matters."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d((3, 3)),
        torch.nn.Flatten(),
        torch.nn.Linear(72, 3),
    ).requires_grad_(False)
    module[0].bias += 1
    module[2].bias += 1
    module[6].weight *= 20
    x = torch.from_numpy(IMAGES[:1])
    module[6].bias -= module(x)[0] - torch.tensor([0.0, 1.0, 0.5])
    plain = Standardisation((0.0, 0.0), (1.0, 1.0))
    network = Network(module.eval(), {}, ("a", "b", "c"), 1000, WINDOWS.space, plain)
    nodes = NetworkNodes(network, Readout(TARGETS), {"item": [1, 2]}, "cpu", precision)
    return Incremental(nodes, sampler, WINDOWS, 2, seed)


def refinement(sampler: Sampler, in_two_precisions: bool = True) -> Refinement:
    return Refinement(WINDOWS, TARGETS, EVIDENCE, sampler.random, in_two_precisions)


def refined(
    sampler: Sampler, accuracy: float, seed: int = 0, before: Sequence[Drawn] = ()
) -> list[Level]:
    one, found = refinement(sampler), []
    reduced, in_float32 = (engine(kind, sampler, seed) for kind in ("bfloat16", "float32"))
    for level in levels(reduced, one, IMAGES[0], "item", no_progress, before, in_float32):
        found.append(level)
        if one.is_reached(level.drawn.passes, level.estimate.reached, accuracy):
            break
    return found


def in_float32(sampler: Sampler, samples: int) -> np.ndarray:
    """Relevance of all windows, of many draws: the oracle."""
    one = engine("float32", sampler, seed=100)
    found = one.expectations(IMAGES[:1], ["item"], WINDOWS.everything, samples=samples)
    return EVIDENCE.maps(
        TARGETS,
        WINDOWS,
        {
            "reference": found.reference[0],
            "change": found.change[0],
            "variance": found.variance[0],
        },
    )[0]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def test_the_shift_is_corrected_and_its_error_is_said(conditional: Conditional) -> None:
    exact = in_float32(conditional, 30)
    largest = np.abs(exact).max((1, 2), keepdims=True)
    error, said, without, said_without = [], [], [], []
    for seed in range(4):
        last = refined(conditional, 0.06, seed)[-1]
        found = last.estimate
        assert last.drawn.shift is not None and 0 < last.drawn.shift.passes < last.drawn.passes / 2
        error.append((found.relevance - exact) / largest)
        said.append(found.error / largest)
        assert (found.stderr <= found.error * (1 + 1e-9)).all()
        alone = refinement(conditional, False).estimate(replace(last.drawn, shift=None))
        without.append((alone.relevance - exact) / largest)
        said_without.append(alone.error / largest)
    assert rms(np.stack(error)) < 1.25 * rms(np.stack(said))
    assert rms(np.stack(without)) > 2 * rms(np.stack(said_without))
    assert rms(np.stack(error)) < 0.5 * rms(np.stack(without))


def test_levels_go_on_from_those_that_are_known(conditional: Conditional) -> None:
    every = refined(conditional, 0.08)
    assert len(every) > 2
    for count in range(1, len(every)):
        later = refined(conditional, 0.08, before=[level.new for level in every[:count]])
        for level, expected in zip(later, every[count:], strict=True):
            assert level.number == expected.number
            for name in ("draws", "change", "variance"):
                assert np.array_equal(getattr(level.new, name), getattr(expected.new, name))
                shift, wanted = level.new.shift, expected.new.shift
                assert np.array_equal(getattr(shift, name), getattr(wanted, name))
            assert np.array_equal(level.estimate.relevance, expected.estimate.relevance)
            assert np.array_equal(level.estimate.error, expected.estimate.error)


def test_what_is_not_random_ends_with_the_map_in_float32() -> None:
    last = refined(Grey(0.5), 1e-9)[-1]
    assert last.drawn.shift is not None and (last.drawn.shift.draws == 1).all()
    assert not last.estimate.error.any()
    largest = np.abs(last.estimate.relevance).max()
    exact = in_float32(Grey(0.5), 1)
    assert last.estimate.relevance == pytest.approx(exact, abs=1e-4 * largest)
