"""Captum's algorithms: hand-derived maps, seeds, what is left behind, and messages."""

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps, MethodSettings
from preddiff.methods.captum_algorithms import suited
from preddiff.settings.base import validate
from preddiff.targets import Target
from tests.unit.methods.networks import (
    ITEM,
    LOGITS,
    Awkward,
    classifier,
    images,
    item_of,
    nodes_of,
    volumes,
)

NAMED = [
    "IntegratedGradients", "GradientShap", "DeepLift", "Saliency", "InputXGradient", "SmoothGrad",
    "GuidedBackprop", "LayerGradCam", "Occlusion", "ShapleyValueSampling", "LRP",
]  # fmt: skip
ALL = sorted({*suited(), *NAMED})


def method(algorithm: str, **settings: Any) -> MethodSettings:
    given = {"method": "captum", "algorithm": algorithm, "classifier": "c", **settings}
    return validate(METHODS["captum"], given, "study")


def maps(network: Network, algorithm: str, seed: int = 0, **settings: Any) -> Maps:
    x = item_of(network)
    return method(algorithm, **settings).maps(nodes_of(network), x, ITEM, LOGITS, seed)


# Linear classifiers

SHAPE = (2, 4, 3, 4)
WEIGHTS = np.random.default_rng(1).normal(size=SHAPE)
LINEAR = LinearClassifier(WEIGHTS, 0.5, ("control", "patient"), 9, (0, 0, 0))
SIDES = [Target("logit", "patient"), Target("logit", "control")]
X = np.random.default_rng(2).normal(size=SHAPE)
PRODUCT = (WEIGHTS * X).sum(0)


def linear_maps(algorithm: str, seed: int = 0, **settings: Any) -> np.ndarray:
    nodes = LINEAR.nodes(SIDES, {})
    found = method(algorithm, **settings).maps(nodes, torch.from_numpy(X), ITEM, SIDES, seed)
    assert found.values.tolist() == pytest.approx(
        [LINEAR.logit(X[None])[0], -LINEAR.logit(X[None])[0]]
    )
    assert not found.stderr.any()
    assert (
        found.relevance[0].numpy() == pytest.approx(-found.relevance[1].numpy())
        or (found.relevance >= 0).all()
    )
    return found.relevance[0].numpy()


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("IntegratedGradients", {}),
        ("DeepLift", {}),
        ("InputXGradient", {}),
        ("LRP", {}),
        ("FeatureAblation", {"cell_side": 1}),
        ("ShapleyValueSampling", {"cell_side": 1}),
        ("Occlusion", {"cell_side": 1}),
        ("Occlusion", {"arguments": {"sliding_window_shapes": [1, 1, 1, 1]}}),
        ("GradientShap", {"arguments": {"baselines": 0}}),
        ("SmoothGrad", {"arguments": {"attribution_method": "InputXGradient", "stdevs": 0}}),
    ],
)
def test_of_a_linear_classifier_it_is_weight_times_input(algorithm: str, settings) -> None:
    assert linear_maps(algorithm, **settings) == pytest.approx(PRODUCT, abs=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "settings", "expected"),
    [
        ("Saliency", {}, np.abs(WEIGHTS).max(0)),
        ("SmoothGrad", {}, np.abs(WEIGHTS).max(0)),
        ("Saliency", {"arguments": {"abs": False}}, WEIGHTS.sum(0)),
        ("GuidedBackprop", {}, WEIGHTS.sum(0)),
        ("SmoothGrad", {"arguments": {"nt_type": "vargrad"}}, np.zeros(SHAPE[1:])),
    ],
)
def test_of_a_linear_classifier_gradients_are_weights(algorithm, settings, expected) -> None:
    assert linear_maps(algorithm, **settings) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("algorithm", ["IntegratedGradients", "DeepLift", "GradientShap"])
@pytest.mark.parametrize(
    ("baselines", "values"),
    [(0.5, np.full(SHAPE, 0.5)), ("mean", X.mean((1, 2, 3), keepdims=True))],
)
def test_baselines_are_subtracted(algorithm: str, baselines: object, values: np.ndarray) -> None:
    found = linear_maps(algorithm, arguments={"baselines": baselines})
    assert found == pytest.approx((WEIGHTS * (X - values)).sum(0), abs=1e-5)


def test_baselines_of_noise_have_the_spread_of_each_channel() -> None:
    """For a linear model the map is w (x - mean of the baselines), whose spread is known."""
    draws = np.stack([linear_maps("GradientShap", seed) for seed in range(60)]) - PRODUCT
    spread = np.sqrt((WEIGHTS**2 * X.std((1, 2, 3), ddof=1, keepdims=True) ** 2).sum(0))
    # 16 draws with replacement from 16 baselines: twice the variance of a mean of 16, but 1/16.
    expected = spread * np.sqrt(1 / 16 + 1 / 16 - 1 / 256)
    assert np.abs(draws.mean(0) / expected).max() < 5 / np.sqrt(60)
    assert (draws**2).mean() == pytest.approx((expected**2).mean(), rel=0.15)


@pytest.mark.parametrize("algorithm", ["FeatureAblation", "ShapleyValueSampling"])
def test_cells_are_a_regular_grid(algorithm: str) -> None:
    expected = np.empty(SHAPE[1:])
    for corner in product(range(0, 4, 2), range(0, 3, 2), range(0, 4, 2)):
        box = tuple(slice(start, start + 2) for start in corner)
        expected[box] = PRODUCT[box].sum()
    assert linear_maps(algorithm, cell_side=2) == pytest.approx(expected, abs=1e-5)


def test_windows_that_overlap_are_averaged() -> None:
    sums, counts = np.zeros(SHAPE[1:]), np.zeros(SHAPE[1:])
    for corner in product(range(3), range(2), range(3)):
        box = tuple(slice(start, start + 2) for start in corner)
        sums[box] += PRODUCT[box].sum()
        counts[box] += 1
    assert linear_maps("Occlusion", cell_side=2) == pytest.approx(sums / counts, abs=1e-5)
    found = linear_maps(
        "Occlusion", arguments={"sliding_window_shapes": [2, 2, 2, 2], "strides": [2, 1, 1, 1]}
    )
    assert found == pytest.approx(sums / counts, abs=1e-5)


def test_a_linear_classifier_has_no_layers() -> None:
    for settings in ({}, {"layer": "1"}):
        with pytest.raises(InputError, match="linear classifier has no hidden layers"):
            linear_maps("LayerGradCam", **settings)


# Networks


def small(activation: nn.Module) -> Network:
    torch.manual_seed(5)
    network = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), activation, nn.Flatten(), nn.Linear(5 * 16, 3)
    )
    with torch.no_grad():
        network[0].weight *= 20
    return classifier(network, (4, 4), 2)


def forward(network: Network, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and gradients of the activation of `small`, for both targets; and its kernel."""
    conv, _, _, linear = network.module
    hidden = functional.conv2d(x[None], conv.weight, conv.bias, padding=1)[0]
    gradients = linear.weight[[0, 2]].reshape(2, *hidden.shape)
    return hidden, gradients, conv.weight


def backward(gradients: Tensor, kernel: Tensor) -> Tensor:
    return functional.conv_transpose2d(gradients, kernel, padding=1)


def check(found: Maps, expected: Tensor) -> None:
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(found.relevance, expected.double(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.ReLU6(), nn.ReLU6(inplace=True)])
def test_guided_backpropagation(activation: nn.Module) -> None:
    network = small(activation)
    x = item_of(network)
    hidden, gradients, kernel = forward(network, x)
    open_units = (hidden > 0) & (hidden < (6 if isinstance(activation, nn.ReLU6) else 1e9))
    assert not open_units.all() and (hidden > 6).any()
    check(
        maps(network, "GuidedBackprop"),
        backward((gradients * open_units).clamp(min=0), kernel).sum(1),
    )


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.ReLU6(inplace=True)])
def test_deeplift(activation: nn.Module) -> None:
    """The rescale rule: differences of outputs over differences of inputs."""
    network = small(activation)
    x = item_of(network)
    hidden, gradients, kernel = forward(network, x)
    reference, _, _ = forward(network, torch.zeros_like(x))
    top = 6 if isinstance(activation, nn.ReLU6) else 1e9
    slope = (hidden.clamp(0, top) - reference.clamp(0, top)) / (hidden - reference)
    found = maps(network, "DeepLift")
    check(found, (x * backward(gradients * slope, kernel)).sum(1))
    assert found.notes == ()


def test_layerwise_relevance_propagation() -> None:
    network = small(nn.ReLU(inplace=True))
    x = item_of(network)
    hidden, gradients, kernel = forward(network, x)
    relevance = hidden.clamp(min=0) * gradients
    expected = (x * backward(relevance / hidden, kernel)).sum(1)
    check(maps(network, "LRP"), expected)


def gradients_of(network: Network, layer: Callable[[Tensor], Tensor], rest: Callable) -> Any:
    """Activations of a layer, and their gradients for both targets."""
    hidden = layer(item_of(network)[None]).detach().requires_grad_()
    logits = rest(hidden)[0]
    return hidden[0], [
        torch.autograd.grad(logits[c], hidden, retain_graph=True)[0][0] for c in (0, 2)
    ]


@pytest.mark.parametrize("relu", [False, True])
def test_grad_cam(relu: bool) -> None:
    network = small(nn.ReLU(inplace=True))
    conv, _, flatten, linear = network.module
    hidden, gradients = gradients_of(
        network, lambda x: conv(x).clamp(min=0), lambda h: linear(flatten(h))
    )
    expected = torch.stack([(g.mean((1, 2))[:, None, None] * hidden).sum(0) for g in gradients])
    arguments = {"relu_attributions": True} if relu else {}
    check(
        maps(network, "LayerGradCam", arguments=arguments),
        expected.clamp(min=0) if relu else expected,
    )


def test_grad_cam_is_upsampled_from_the_layer_that_is_named() -> None:
    network = images()
    found = maps(network, "LayerGradCam", layer="avg_pool2d")
    net = network.module
    pooled = {}

    def layer(x: Tensor) -> Tensor:
        x = net.conv1(x).clamp(min=0)
        y = (net.conv2(x) + x).clamp(min=0)
        pooled["z"] = functional.avg_pool2d(net.conv3(y).clamp(min=0), 2)
        return functional.avg_pool2d(y, 2)

    def rest(hidden: Tensor) -> Tensor:
        return net.head(torch.cat([hidden, pooled["z"]], 1).mean((2, 3)))

    hidden, gradients = gradients_of(network, layer, rest)
    # Values of linear interpolation between the centres of 4 units, at those of 8.
    at = ((torch.arange(8) + 0.5) / 2 - 0.5).clamp(0, 3)
    weights = (1 - (at[:, None] - torch.arange(4)).abs()).clamp(min=0)
    expected = torch.stack(
        [weights @ (g.mean((1, 2))[:, None, None] * hidden).sum(0) @ weights.T for g in gradients]
    )
    check(found, expected)


@pytest.mark.parametrize("clipped", [False, True])
def test_what_adds_up_to_the_change_of_the_target_does_so_in_any_network(clipped: bool) -> None:
    network = images(clipped=clipped)
    zero = network.module(torch.zeros((1, 3, 8, 8)))[0, [0, 2]]
    for algorithm, arguments, tolerance in (
        ("DeepLift", {}, 1e-4),
        ("IntegratedGradients", {"n_steps": 500}, 5e-3),
    ):
        found = maps(network, algorithm, arguments=arguments)
        change = (found.values - zero).tolist()
        assert found.relevance.sum((1, 2)).tolist() == pytest.approx(change, rel=tolerance)
        assert found.notes == ()


@pytest.mark.parametrize("network", [images(bias=False), volumes(bias=False)], ids=["2-D", "3-D"])
def test_relevance_is_conserved_without_biases(network: Network) -> None:
    found = maps(network, "LRP")
    axes = tuple(range(1, found.relevance.ndim))
    assert found.relevance.sum(axes).tolist() == pytest.approx(found.values.tolist(), rel=1e-3)


def test_relevance_of_a_map_and_of_a_probability() -> None:
    """It starts at the map's units over their number, and at the gradient times the logits."""
    network = small(nn.ReLU(inplace=True))
    x = item_of(network)
    hidden, _, kernel = forward(network, x)
    targets = [Target("map", "0:1"), Target("probability", "2")]
    found = method("LRP").maps(nodes_of(network, targets), x, ITEM, targets, 0)
    units = torch.zeros_like(hidden)
    units[1] = hidden[1] / 16
    logits = network.module(x[None])[0]
    p = logits.softmax(0)
    start = logits * p[2] * (torch.tensor([0.0, 0.0, 1.0]) - p)
    weight = network.module[3].weight.reshape(3, *hidden.shape)
    passed = (start / logits)[:, None, None, None] * weight * hidden.clamp(min=0)
    relevance = torch.stack([units, passed.sum(0)])
    check(found, (x * backward(relevance / hidden, kernel)).sum(1))


def test_pooling_after_an_activation_keeps_deeplift_complete() -> None:
    network = volumes()
    zero = network.module(torch.zeros((1, 1, 6, 7, 6)))[0, [0, 2]]
    found = maps(network, "DeepLift")
    assert found.relevance.sum((1, 2, 3)).tolist() == pytest.approx(
        (found.values - zero).tolist(), rel=1e-3
    )


@pytest.mark.parametrize("network", [images(), volumes()], ids=["2-D", "3-D"])
@pytest.mark.parametrize("algorithm", ALL)
def test_every_algorithm_makes_maps_and_leaves_nothing_behind(
    algorithm: str, network: Network
) -> None:
    before = state(network.module)
    generators = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    found = maps(network, algorithm, seed=4)
    assert found.relevance.shape == (2, *network.space)
    assert found.relevance.dtype == torch.float64
    assert found.relevance.isfinite().all() and found.relevance.any()
    assert state(network.module) == before
    assert torch.equal(torch.random.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1])
    # Again, bit by bit, without the other target.
    one = method(algorithm)
    alone = one.maps(nodes_of(network, LOGITS[1:]), item_of(network), ITEM, LOGITS[1:], 4)
    assert torch.equal(alone.relevance[0], found.relevance[1])
    other = one.maps(nodes_of(network), item_of(network), ITEM, LOGITS, 5)
    assert torch.equal(other.relevance, found.relevance) == (not one.is_random)


def state(network: nn.Module) -> list[object]:
    found: list[object] = []
    for name, module in network.named_modules():
        hooks = [len(value) for key, value in vars(module).items() if key.endswith("_hooks")]
        found += [name, sorted(vars(module)), hooks]
        found += [getattr(module, "inplace", None)]
    return found + [tensor.tolist() for tensor in network.state_dict().values()]


@pytest.mark.parametrize(
    ("algorithm", "arguments", "evidence"),
    [
        ("Saliency", {}, False),
        ("Saliency", {"abs": False}, True),
        ("SmoothGrad", {}, False),
        ("SmoothGrad", {"attribution_method": "IntegratedGradients"}, True),
        ("SmoothGrad", {"attribution_method": "DeepLift", "nt_type": "vargrad"}, False),
        ("LayerGradCam", {}, True),
        ("LayerGradCam", {"relu_attributions": True}, False),
        ("LRP", {}, True),
    ],
)
def test_magnitudes_are_told_from_evidence(algorithm: str, arguments, evidence: bool) -> None:
    one = method(algorithm, arguments=arguments)
    assert one.shows_evidence == evidence
    found = maps(images(), algorithm, arguments=arguments)
    assert bool((found.relevance < 0).any()) <= evidence


@pytest.mark.parametrize(
    ("algorithm", "needed"), [("LayerGradCam", True), ("GuidedGradCam", True), ("LRP", False)]
)
def test_only_some_algorithms_need_a_layer(algorithm: str, needed: bool) -> None:
    assert method(algorithm).needs_layers == needed


def test_attributions_that_miss_the_change_are_noted() -> None:
    network = images()
    few = maps(network, "IntegratedGradients", arguments={"n_steps": 1})
    zero = network.module(torch.zeros((1, 3, 8, 8)))[0, [0, 2]]
    missed = few.relevance.sum((1, 2)) - (few.values - zero)
    share = missed.abs() / few.relevance.sum((1, 2)).abs()
    assert len(few.notes) == int((share > 0.1).sum()) >= 1
    assert "IntegratedGradients, logit:" in few.notes[0]


# Messages


def test_errors_of_captum_name_algorithm_item_and_target() -> None:
    expected = r"item 'item', logit:0: Captum's IntegratedGradients failed \(.*Given no\)"
    with pytest.raises(InputError, match=expected):
        maps(images(), "IntegratedGradients", arguments={"method": "no"})


def test_layers_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        InputError, match=r"item 'item': Captum's LayerGradCam: .* no layer 'conv9'"
    ):
        maps(images(), "LayerGradCam", layer="conv9")
    with pytest.raises(InputError, match=r"layer 'flatten' .*choose another layer"):
        maps(images(), "LayerGradCam", layer="flatten")


class Unsuited(nn.Module):
    """A network with another activation than ReLU, and one that torch.fx cannot trace."""

    def __init__(self, *, asks: bool) -> None:
        super().__init__()
        self.asks, self.norm, self.gelu = asks, nn.GroupNorm(1, 3), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        if self.asks and x.sum() > 1e9:
            return x[:, :, 0, 0]
        return self.gelu(self.norm(x)).mean((2, 3))


def test_networks_that_do_not_fit_are_refused() -> None:
    network = classifier(Unsuited(asks=False), (4, 4), 3)
    with pytest.raises(InputError, match=r"GuidedBackprop: .* other activations \(GELU\)"):
        maps(network, "GuidedBackprop")
    with pytest.raises(InputError, match=r"Captum's LRP failed \(TypeError: .*GroupNorm.* no rule"):
        maps(network, "LRP")
    with pytest.raises(InputError, match=r"Captum's DeepLift: torch\.fx cannot trace"):
        maps(classifier(Unsuited(asks=True), (4, 4), 3), "DeepLift")
    assert maps(classifier(Unsuited(asks=True), (4, 4), 3), "Saliency").relevance.any()


def test_provenance_holds_arguments_and_version() -> None:
    import captum

    found = method("Occlusion", cell_side=2, arguments={"strides": 1}).provenance()
    assert found == {
        "method": "captum",
        "algorithm": "Occlusion",
        "arguments": {"strides": 1},
        "layer": None,
        "cell_side": 2,
        "captum": captum.__version__,
    }


def test_awkward_networks_are_awkward() -> None:
    """Without the copy that fits hooks, DeepLift fails on the network of these tests."""
    from captum.attr import DeepLift

    network = Awkward().eval()
    with pytest.raises(RuntimeError):
        DeepLift(network).attribute(torch.ones((1, 3, 8, 8)), target=0)


class Plain(nn.Module):
    """The network of `small`, flattened by a function, since Captum's LRP does not know Flatten."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, _, self.linear = network

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.relu(self.conv(x)).flatten(1))


@pytest.mark.parametrize("algorithm", ["DeepLift", "LRP", "GuidedBackprop", "LayerGradCam"])
def test_on_a_network_of_plain_modules_maps_are_captums(algorithm: str) -> None:
    import captum.attr

    network = small(nn.ReLU())
    x = item_of(network)[None]
    plain = Plain(network.module)
    layer = [plain.relu] if algorithm.startswith("Layer") else []
    one = getattr(captum.attr, algorithm)(plain, *layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.cat([one.attribute(x, target=target).detach() for target in (0, 2)])
    assert torch.allclose(
        maps(network, algorithm).relevance, expected.sum(1).double(), rtol=1e-5, atol=1e-6
    )
