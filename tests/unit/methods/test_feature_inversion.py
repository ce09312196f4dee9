"""Guided feature inversion: masks, both stages, a planted toy, and what is said of bad masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps
from preddiff.methods.channel_masks import Course, Problem, masks_of, optimise
from preddiff.methods.feature_inversion import PRESETS
from preddiff.targets import Target

SIDE = 16
A, B = Target("probability", "0"), Target("probability", "1")


def method(**given: object):
    return METHODS["feature-inversion"].model_validate(
        {"method": "feature-inversion", "classifier": "c", **given}
    )


class Toy(nn.Module):
    """Two channels, each of which sees one colour; class 0 needs the first, class 1 the second."""

    def __init__(self, dimensions: int = 2) -> None:
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.conv = convolution(2, 2, 1, bias=False)
        self.relu = nn.ReLU()
        self.pool = (nn.AvgPool2d if dimensions == 2 else nn.AvgPool3d)(2)
        self.linear = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(2).reshape(self.conv.weight.shape))
            self.linear.weight.copy_(30 * torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv(x)))
        return self.linear(x.flatten(2).mean(2))


def toy(dimensions: int = 2) -> Network:
    return Network(
        prepared(Toy(dimensions)), {}, ("a", "b"), 10, (SIDE,) * dimensions,
        Standardisation((0.0, 0.0), (1.0, 1.0)),
    )  # fmt: skip


def planted(dimensions: int = 2) -> Tensor:
    """Object A in the first channel, in the upper left; object B in the second, lower right."""
    x = torch.zeros((2, *(SIDE,) * dimensions))
    x[(0, *(slice(2, 7),) * dimensions)] = 1
    x[(1, *(slice(9, 14),) * dimensions)] = 1
    return x


def maps(x: Tensor, targets: list[Target], dimensions: int = 2, **given: object) -> Maps:
    numbers = [int(target.label) for target in targets]
    nodes = toy(dimensions).nodes(targets, {"x": numbers})
    given = {"layer": "relu", "background": "grey", **given}
    return method(**given).maps(nodes, x, "x", targets, 0)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_each_class_keeps_its_object(preset: str, dimensions: int) -> None:
    x = planted(dimensions)
    # The toy's activations are few, so that the paper's penalty would outweigh them.
    found = maps(x, [A, B], dimensions, preset=preset, sparsity=[0, 0.01])
    objects = x > 0
    for own, other in ((0, 1), (1, 0)):
        mask = found.relevance[own]
        assert bool(objects[own].flatten()[mask.argmax()])
        assert mask[objects[own]].mean() > 2 * mask[objects[other]].mean()
        assert found.extras["kept"][own] > found.extras["removed"][own]
    first = found.extras["first_stage"]
    assert first[objects[0]].min() > 0.5 and first[objects[1]].min() > 0.5
    swapped = maps(x, [B, A], dimensions, preset=preset, sparsity=[0, 0.01])
    assert torch.equal(swapped.relevance, found.relevance.flip(0))


def test_the_first_stage_is_the_same_for_all_classes() -> None:
    found = maps(planted(), [A, B], stage=1, sparsity=[0, 0])
    assert torch.equal(found.relevance[0], found.relevance[1])
    alone = maps(planted(), [B], stage=1, sparsity=[0, 0])
    assert torch.equal(found.relevance[1], alone.relevance[0])
    assert "first_stage" not in found.extras
    both = maps(planted(), [A, B], sparsity=[0, 0])
    assert torch.equal(both.extras["first_stage"], found.relevance[0])
    assert not torch.equal(both.relevance[0], both.relevance[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.booleans(), st.sampled_from([2, 3]))
def test_masks(seed: int, factor: float, scaled_last: bool, dimensions: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand((2, 3, *(4,) * dimensions), generator=generator)
    weights = torch.rand((2, 3), generator=generator)
    space = (7,) * dimensions
    mask = masks_of(weights, features, space, scaled_last)
    assert mask.shape == (2, 1, *space)
    assert torch.allclose(masks_of(factor * weights, features, space, scaled_last), mask, atol=1e-4)
    low = np.einsum("rc,rc...->r...", weights.numpy(), features.numpy())
    for row in range(2):
        # Linear interpolation between the centres of units, by SciPy.
        places = np.clip((np.arange(7) + 0.5) * 4 / 7 - 0.5, 0, 3)
        grid = np.stack(np.meshgrid(*(places,) * dimensions, indexing="ij"))
        scaled = low[row]
        if not scaled_last:
            scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        wanted = ndimage.map_coordinates(scaled, grid, order=1, mode="nearest")
        if scaled_last:
            wanted = (wanted - wanted.min()) / wanted.max()
        assert np.allclose(mask[row, 0].numpy(), wanted, atol=1e-5)


def test_the_range_of_masks_at_low_resolution() -> None:
    features = torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(0)) + 1
    weights = torch.ones((1, 3))
    paper = masks_of(weights, features, (4, 4), scaled_last=False)
    assert float(paper.min()) == 0 and float(paper.max()) == 1
    code = masks_of(weights, features, (4, 4), scaled_last=True)
    low = features.sum(1)
    assert float(code.max()) == pytest.approx(1 - float(low.min() / low.max()))


@pytest.mark.parametrize("scaled_last", [False, True])
def test_masks_of_nothing_are_zero(scaled_last: bool) -> None:
    features = torch.rand((1, 3, 4, 4))
    for weights, given_features in (
        (torch.zeros((1, 3)), features),
        (torch.ones((1, 3)), torch.ones((1, 3, 4, 4))),
        (torch.ones((1, 3)), torch.zeros((1, 3, 4, 4))),
    ):
        weights.requires_grad_()
        mask = masks_of(weights, given_features, (8, 8), scaled_last)
        assert not mask.any()
        (gradient,) = torch.autograd.grad(mask.sum(), weights)
        assert gradient.isfinite().all()


def problem(preset: str = "paper") -> Problem:
    generator = torch.Generator().manual_seed(3)
    x, empty = torch.rand((2, 3, 2, 8, 8), generator=generator)
    return Problem(x, empty, torch.rand((3, 4, 4, 4), generator=generator), PRESETS[preset])


def test_kept_and_removed_parts() -> None:
    one = problem()
    whole = torch.ones((3, 1, 8, 8))
    assert torch.equal(one.kept(whole), one.x) and torch.equal(one.without(whole), one.empty)
    half = torch.full((3, 1, 8, 8), 0.25)
    assert torch.allclose(one.kept(half) + one.without(half), one.x + one.empty)


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_are_those_of_adam_with_clipping(preset: str) -> None:
    """The same course by an Adam written out, in float64 NumPy, with gradients of a known loss."""
    one = problem(preset)
    recipe = one.recipe
    direction = torch.linspace(-1, 2, 64).reshape(1, 1, 8, 8)

    def loss(mask: Tensor) -> Tensor:
        return 50 * (mask * direction).flatten(1).sum(1)

    first = optimise(one, Course.at_the_start(one), loss, 0)
    last = optimise(one, first, loss, 1)
    w = np.full((3, 4), 0.1)
    m, v, count = np.zeros_like(w), np.zeros_like(w), 0
    for stage in (0, 1):
        if stage == 1 and preset == "paper":
            m, v, count = np.zeros_like(w), np.zeros_like(w), 0
        for step in range(recipe.steps[stage]):
            leaf = torch.from_numpy(w).float().requires_grad_()
            mask = masks_of(leaf, one.features, (8, 8), recipe.scaled_last)
            penalty = {"paper": leaf.abs(), "code": leaf**2}[preset].sum()
            total = loss(mask).sum() + recipe.sparsity[stage] * penalty
            gradient = torch.autograd.grad(total, leaf)[0].numpy().astype(float)
            done = step + (11 if preset == "code" and stage else 0)
            halved = 0 if preset == "paper" and stage == 0 else done // 10
            count += 1
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            size = np.sqrt(v / (1 - 0.999**count)) + 1e-8
            moved = w - 0.01 * 0.5**halved * m / (1 - 0.9**count) / size
            moved = np.maximum(moved, 0)
            w = np.where(moved.max(1, keepdims=True) > 1e-6, moved, w)
        found = first if stage == 0 else last
        assert (found.weights >= 0).all()
        assert np.allclose(found.weights, w, atol=2e-4)
    assert last.losses.shape == (3, sum(recipe.steps))


def test_the_penalty_alone_does_not_end_in_nothing() -> None:
    one = problem()
    found = optimise(one, Course.at_the_start(one), lambda mask: 0 * mask.flatten(1).sum(1), 0)
    assert found.stuck.all()
    assert (found.weights.amax(1) > 0).all()
    assert (one.masks(found.weights).flatten(1).amax(1) > 0.5).all()


def test_rows_do_not_depend_on_each_other() -> None:
    one = problem("code")

    def loss(mask: Tensor) -> Tensor:
        return mask.flatten(1).square().sum(1)

    together = optimise(one, Course.at_the_start(one), loss, 0)
    alone = one.of_rows(torch.tensor([1]))
    separate = optimise(alone, Course.at_the_start(alone), loss, 0)
    assert torch.allclose(together.weights[1], separate.weights[0], atol=1e-6)


def test_items_side_by_side_are_as_one_by_one() -> None:
    x = torch.stack([planted(), planted().flip(1)])
    nodes = toy().nodes([A, B], {"x": [0, 1], "y": [1, 0]})
    one = method(layer="relu", background="noise", sparsity=[0, 0.01])
    both = one.maps_of_batch(nodes, x, ["x", "y"], [A, B], [5, 6])
    for number, name in enumerate("xy"):
        found = one.maps(nodes, x[number], name, [A, B], 5 + number)
        assert torch.allclose(both[number].relevance, found.relevance, atol=1e-4)
        assert torch.allclose(both[number].values, found.values)
        assert torch.equal(
            found.relevance, one.maps(nodes, x[number], name, [A, B], 5 + number).relevance
        )


def test_noise_depends_on_the_seed() -> None:
    nodes = toy().nodes([A], {"x": [0]})
    one = method(layer="relu", background="noise", sparsity=[0, 0])
    first, again, other = (one.maps(nodes, planted(), "x", [A], seed) for seed in (1, 1, 2))
    assert torch.equal(first.extras["loss"], again.extras["loss"])
    assert not torch.equal(first.extras["loss"], other.extras["loss"])
    assert one.is_random and not method().is_random


def test_extras_have_the_shapes_that_are_declared() -> None:
    nodes = toy().nodes([A, B], {"x": [0, 1]})
    for stage in (1, 2):
        one = method(layer="relu", stage=stage)
        declared = one.extras(nodes, (2, SIDE, SIDE), 2)
        found = one.maps(nodes, planted(), "x", [A, B], 0)
        assert {name: tuple(extra.shape) for name, extra in found.extras.items()} == {
            name: extra.shape for name, extra in declared.items()
        }


def test_bad_masks_are_said() -> None:
    found = maps(planted(), [A, B])
    assert any("all weights zero" in note for note in found.notes)
    # The mask of nothing but B's colour cannot keep class A.
    only = torch.zeros((2, SIDE, SIDE))
    only[1, 9:14, 9:14] = 1
    found = maps(only, [A], sparsity=[0, 0])
    assert any("is not above" in note for note in found.notes)
    slow = maps(planted(), [A], sparsity=[0, 0.01], rate=1e-4, steps=[1, 21])
    assert any("still falling" in note for note in slow.notes)


def test_an_inversion_layer_that_is_silent_has_no_relative_error() -> None:
    with pytest.raises(InputError, match="inversion layer are zero"):
        maps(-planted(), [A], preset="code", layer="conv", inversion_layer="relu")


def test_layers_without_maps_are_refused() -> None:
    with pytest.raises(InputError, match="layer 'linear' has activations of shape \\(2,\\)"):
        maps(planted(), [A], layer="linear")
    with pytest.raises(InputError, match="no layer 'nowhere'"):
        maps(planted(), [A], layer="nowhere")
    classifier = LinearClassifier(np.ones((1, 4, 4, 4)), 0.0, ("a", "b"), 9, (0, 0, 0))
    target = Target("logit", "b")
    with pytest.raises(InputError, match="linear classifier"):
        method().maps(classifier.nodes([target], {}), torch.ones((1, 4, 4, 4)), "x", [target], 0)
