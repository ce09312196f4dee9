"""What classifiers see of windows that overlap the border of it, by any sampler and engine."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from torch import Tensor

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines.dense import Dense, redrawn
from preddiff.engines.held_out import ByModel
from preddiff.engines.linear import Exact, Samples
from preddiff.engines.seen import seen_draws, seen_voxels
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import generator
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Windows
from tests.conftest import fitted, smooth
from tests.unit.test_windows import overlapping_windows

ITEMS = smooth(np.random.default_rng(1), (12, 2, 9, 6, 5))
NAMES = [f"item {n}" for n in range(len(ITEMS))]
SLAB = (slice(3, 6), slice(0, 6), slice(0, 5))
K = 3
WINDOWS = Windows.overlapping(ITEMS.shape[2:], K, 1, SLAB)
SIDES = (2, 3, 6, 5)
TWO = LinearClassifier(
    np.random.default_rng(2).normal(size=SIDES) * 0.3, 0.2, ("no", "yes"), 40, (3, 0, 0)
)
THREE = LinearClassifier(
    np.random.default_rng(3).normal(size=(3, *SIDES)) * 0.3,
    np.array([0.1, -0.3, 0.2]),
    ("a", "b", "c"),
    40,
    (3, 0, 0),
)


@given(overlapping_windows(), st.integers(1, 2), st.integers(1, 3))
def test_draws_in_boxes_give_the_seen_part_of_redrawn_inputs(
    windows: Windows, channels: int, samples: int
) -> None:
    source, block = torch.Generator().manual_seed(1), windows.everything
    x = torch.randn((channels, *windows.space), generator=source)
    size = channels * windows.k ** len(windows.space)
    draws = torch.randn((block.size, samples, size), generator=source)
    image = windows.cut(x).contiguous()
    values = seen_draws(image, draws, windows, block)
    voxels = torch.from_numpy(seen_voxels(windows, block, channels))
    for number, start in enumerate(windows.first_voxels(block)):
        box = (slice(None), *(slice(s, s + windows.k) for s in start))
        found = redrawn(image, values[number], voxels[number].expand(samples, -1))
        for sample in range(samples):
            whole = x.clone()
            whole[box] = draws[number, sample].reshape(whole[box].shape)
            assert torch.equal(found[sample], windows.cut(whole))


class Mirrored:
    """A user's sampler that is given all that has windows: noise around the item's mean."""

    random = True

    def draw(self, x: Tensor, item, windows, block, samples, generator) -> Tensor:
        assert x.shape == (2, *windows.alone.space)
        size = len(x) * windows.k ** (x.ndim - 1)
        return x.mean() + 0.3 * torch.randn((block.size, samples, size), generator=generator)


def part(values: np.ndarray) -> np.ndarray:
    return values[(..., *WINDOWS.region)]


SAMPLERS = {
    "conditional": (Conditional(fitted(ITEMS, 5)), ITEMS, WINDOWS),
    "marginal": (Marginal(part(ITEMS), NAMES), part(ITEMS), WINDOWS.alone),
    "grey": (Grey(0.4), part(ITEMS), WINDOWS.alone),
    "user": (Mirrored(), part(ITEMS), WINDOWS.alone),
}


def outputs(classifier: LinearClassifier, x: np.ndarray) -> np.ndarray:
    """Outputs for an input (channels, *space), written out."""
    return np.array([
        (weights * x.astype(np.float64)).sum() + intercept
        for weights, intercept in zip(classifier.maps, classifier.intercepts, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_engines_evaluate_the_seen_part_of_what_samplers_draw(name: str) -> None:
    sampler, items, windows = SAMPLERS[name]
    targets = [Target.parse(text) for text in ("probability:c", "logit:a", "logit:b")]
    x, block = items[0], windows.everything

    def nodes(batch: Tensor, item: str) -> Tensor:
        found = THREE.outputs(batch.numpy())
        return torch.from_numpy(np.column_stack([softmax(found, axis=1)[:, 2], found[:, :2]]))

    found = [
        Samples(THREE, sampler, windows, targets, 4, 5).expectations(x[None], NAMES[:1], block),
        Dense(nodes, sampler, windows, 4, 5).expectations(x[None], NAMES[:1], block),
    ]
    source = generator(5, NAMES[0], block)
    draws = sampler.draw(torch.from_numpy(x), NAMES[0], windows, block, 4, source).numpy()
    intact = outputs(THREE, windows.cut(x))
    change = np.zeros((3, block.size))
    for number, start in enumerate(itertools.product(*windows.starts)):
        for draw in draws[number]:
            whole = x.copy()
            box = (slice(None), *(slice(s, s + K) for s in start))
            whole[box] = draw.reshape(whole[box].shape)
            values = outputs(THREE, windows.cut(whole))
            step = np.array([softmax(values)[2] - softmax(intact)[2], *(values - intact)[:2]])
            change[:, number] += step / len(draws[number])
    # Windows before, across and behind the slab.
    assert windows.shape[0] == 5
    for engine in found:
        assert engine.change[0].reshape(3, -1) == pytest.approx(change, abs=2e-6)
        assert engine.reference[0, 1] == pytest.approx(intact[0])


@pytest.mark.parametrize("name", ["marginal", "grey"])
def test_exact_expectations_of_finitely_many_values(name: str) -> None:
    sampler, items, windows = SAMPLERS[name]
    targets = [Target.parse(text) for text in ("probability:yes", "logit:yes")]
    found = Exact(TWO, sampler, windows, targets).expectations(
        items[:1], NAMES[:1], windows.everything
    )
    x = items[0].astype(np.float64)
    values = items[1:].astype(np.float64) if name == "marginal" else np.full_like(x[None], 0.4)
    weights = np.zeros(items.shape[1:])
    weights[(slice(None), slice(2, 5))] = TWO.weights
    logit = outputs(TWO, x[:, 2:5])[0]
    for number, start in enumerate(itertools.product(*windows.starts)):
        box = (slice(None), *(slice(s, s + K) for s in start))
        shifts = [(weights[box] * (one[box] - x[box])).sum() for one in values]
        index = np.unravel_index(number, windows.shape)
        assert found.change[(0, 1, *index)] == pytest.approx(np.mean(shifts), abs=1e-7)
        change = np.mean(expit(logit + np.array(shifts))) - expit(logit)
        assert found.change[(0, 0, *index)] == pytest.approx(change, abs=1e-7)


def test_models_of_folds_are_explained_by_the_same_windows() -> None:
    sampler, items, windows = SAMPLERS["conditional"]
    targets = [Target.parse("logit:yes")]
    other = LinearClassifier(-TWO.weights, 0.1, TWO.classes, 40, TWO.corner)
    both = LinearClassifier(TWO.weights, 0.2, TWO.classes, 40, TWO.corner, models={NAMES[1]: other})
    engine = ByModel(both, lambda one: Exact(one, sampler, windows, targets))
    found = engine.expectations(items[:2], NAMES[:2], windows.everything)
    for row, model in enumerate((TWO, other)):
        alone = Exact(model, sampler, windows, targets).expectations(
            items[row : row + 1], [NAMES[row]], windows.everything
        )
        assert np.array_equal(found.change[row], alone.change[0])
