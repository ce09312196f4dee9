"""Networks for hooks: the same outputs, from modules that are evaluated once."""

from collections import Counter

import pytest
import torch
from torch import nn

from preddiff.classifiers import torchvision
from preddiff.classifiers.hooks import Hookable
from preddiff.classifiers.layers import WithMeans, last_maps
from preddiff.classifiers.network import prepared
from preddiff.errors import InputError
from tests.unit.methods.networks import Awkward, images, item_of, nodes_of


def leaves(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if not list(module.children())]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2", "googlenet"])
def test_outputs_of_torchvisions_networks_stay(name: str) -> None:
    torch.manual_seed(1)
    network = prepared(torchvision.build(name, 10))
    x = torch.rand((2, 3, 64, 64))
    with torch.no_grad():
        logits, means = Hookable(network, [], last_maps(network, x[:1]))(x)
        assert torch.equal(logits, network(x)) and means == {}


def test_means_and_the_tapped_layer_are_those_of_the_network() -> None:
    network, x = images().module, torch.rand((2, 3, 8, 8))
    layers = ["conv1", "add", "relu_1"]
    copied = Hookable(network, layers, "relu_1")
    seen = []
    copied.get_submodule("tap").register_forward_hook(lambda m, i, out: seen.append(out))
    with torch.no_grad():
        logits, means = copied(x)
        expected, expected_means = WithMeans(network, layers)(x)
    assert torch.equal(logits, expected)
    for layer in layers:
        assert torch.equal(means[layer], expected_means[layer])
    assert torch.equal(seen[0].double().mean((2, 3)), means["relu_1"])


def test_each_module_is_evaluated_once_on_a_tensor_of_its_own() -> None:
    copied = Hookable(images().module, ["conv1"], "conv2")
    calls, kept = Counter(), []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        calls.update([id(module)])
        kept.extend(given)

    for module in leaves(copied):
        module.register_forward_pre_hook(note)
    copied(torch.rand((1, 3, 8, 8)))
    assert set(calls.values()) == {1} and len(calls) == len(leaves(copied))
    assert len({id(tensor) for tensor in kept}) == len(kept)
    kinds = Counter(type(module).__name__ for module in leaves(copied))
    assert kinds == {
        "Conv2d": 3, "ReLU": 3, "AvgPool2d": 2, "AdaptiveAvgPool2d": 1, "Linear": 1, "Add": 1,
        "Means": 1, "Identity": 1,
    }  # fmt: skip
    assert not any(getattr(module, "inplace", False) for module in copied.modules())


def test_weights_are_shared_and_the_network_is_left_alone() -> None:
    network = prepared(Awkward())
    copied = Hookable(network, [], None)
    assert {id(p) for p in copied.parameters()} == {id(p) for p in network.parameters()}
    assert network.relu.inplace and not network.relu._forward_hooks


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet", "features.11"),
        ("vgg11", "features.19"),
        ("resnet18", "layer4.1.relu_1"),
        ("mobilenet_v2", "features.18.2"),
        ("squeezenet1_1", "classifier.2"),
    ],
)
def test_last_maps_are_those_before_pooling(name: str, layer: str) -> None:
    network = prepared(torchvision.build(name, 10))
    assert last_maps(network, torch.zeros((1, 3, 224, 224))) == layer


def test_networks_without_maps_have_no_last_ones() -> None:
    network = images()
    assert nodes_of(network).last_maps(item_of(network)) == "cat"
    flat = prepared(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    with pytest.raises(InputError, match="no layer with feature maps"):
        last_maps(flat, torch.zeros((1, 3, 8, 8)))
