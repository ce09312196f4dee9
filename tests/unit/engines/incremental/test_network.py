"""Incremental evaluation against whole forward passes, in float64, on networks of many kinds."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import models

from tests.unit.engines.incremental.whole_passes import places, randomised, require_equal


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("alexnet", ("features.0", "features.5")),
        ("convnext_tiny", ("features.1.0",)),
        ("densenet121", ("features.denseblock1",)),
        ("googlenet", ("inception3b", "inception5b.branch1.conv")),
        ("inception_v3", ("Mixed_5b",)),
        ("mnasnet0_5", ("layers.8",)),
        ("mobilenet_v3_small", ()),
        ("mobilenet_v2", ("features.1", "features.17")),
        ("regnet_x_400mf", ("trunk_output.block1",)),
        ("resnet18", ("layer1.0.relu", "layer4")),
        ("shufflenet_v2_x0_5", ("stage2.0",)),
        ("squeezenet1_1", ("features.3",)),
        ("vgg11", ("features.0", "features.20")),
    ],
)
def test_networks_of_torchvision(name: str, layers: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    auxiliary = name in ("googlenet", "inception_v3")
    options = {"aux_logits": False, "init_weights": False} if auxiliary else {}
    network = randomised(models.get_model(name, weights=None, num_classes=7, **options))
    space, k = (107, 99) if name == "inception_v3" else (75, 68), 6
    ours = require_equal(network, space, k, places(space, k), layers)
    # Squeeze and excitation multiplies maps by what depends on all of their units.
    assert bool(ours.whole_map_operations) == (name == "mobilenet_v3_small")


class Branches(nn.Module):
    """Paths side by side, joined by adding or concatenating them."""

    def __init__(self, paths: list[nn.Module], join: str) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        found = [path(x) for path in self.paths]
        if self.join == "cat":
            return torch.cat([x, *found], dim=1)
        for part in found:
            x = x + part
        return x


@st.composite
def layers_of_any_kind(draw, channels: int, dimensions: int, depth: int = 0) -> nn.Module:
    conv, batch_norm, max_pool, average_pool = (
        (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)
        if dimensions == 2
        else (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d)
    )
    kind = draw(st.sampled_from(["conv", "norm", "relu", "max", "average", "branches"]))
    k, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    ceil = draw(st.booleans())
    if kind == "conv":
        groups = draw(st.sampled_from([1, channels]))
        padding = draw(st.integers(0, 3))
        return conv(channels, channels, k, s, padding, d, groups, bias=draw(st.booleans()))
    if kind == "norm":
        return batch_norm(channels)
    if kind == "max":
        return max_pool(k, s, draw(st.integers(0, k // 2)), d, ceil_mode=ceil)
    if kind == "average":
        padding = draw(st.integers(0, k // 2))
        return average_pool(k, s, padding, ceil, draw(st.booleans()))
    if kind == "branches" and depth == 0:
        paths = [
            nn.Sequential(conv(channels, channels, 2 * reach + 1, 1, reach), nn.ReLU(inplace=True))
            for reach in draw(st.lists(st.integers(0, 2), min_size=1, max_size=2))
        ]
        return Branches(paths, draw(st.sampled_from(["add", "cat"])))
    return draw(st.sampled_from([nn.ReLU(inplace=True), nn.Hardswish(), nn.LeakyReLU(0.2)]))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from([2, 2, 2, 3]))
def test_random_networks(data, dimensions: int) -> None:
    torch.manual_seed(data.draw(st.integers(0, 5)))
    space = tuple(
        data.draw(st.integers(9, 14 if dimensions == 3 else 24)) for _ in range(dimensions)
    )
    layers: list[nn.Module] = []
    x = torch.zeros((2, 3, *space))
    for _ in range(data.draw(st.integers(1, 5))):
        layer = data.draw(layers_of_any_kind(x.shape[1], dimensions))
        try:
            x = layer.eval()(x)
        except RuntimeError:
            # The maps have become too small for this layer.
            assume(False)
        # A maximum over nothing but padding is infinite.
        assume(bool(x.isfinite().all()))
        layers.append(layer)
    if data.draw(st.booleans()):
        layers.append(nn.AdaptiveAvgPool2d(1) if dimensions == 2 else nn.AdaptiveAvgPool3d(1))
        x = x.mean(tuple(range(2, x.ndim)))
    layers += [nn.Flatten(), nn.Linear(x[0].numel(), 4)]
    network = randomised(nn.Sequential(*layers))
    k = data.draw(st.integers(1, 5))
    starts = np.array(
        [
            [data.draw(st.integers(0, n - k)) for n in space]
            for _ in range(data.draw(st.integers(1, 4)))
        ]
    )
    watched = ("0",) if not isinstance(layers[0], nn.Flatten) else ()
    require_equal(network, space, k, starts, watched)


def test_several_normalisations_fold_into_one_convolution() -> None:
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4) for _ in range(3)]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.Flatten(), nn.Linear(400, 2))
    ours = require_equal(randomised(network), (12, 12), 3, places((12, 12), 3))
    assert sum(node.op == "call_module" for node in ours.nodes) == 3


class Written(nn.Module):
    """Operations that are written as functions and methods, some of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 0.7))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        y = self.second(x)
        y.add_(x)
        y.clamp_(min=-0.5)
        x = F.max_pool2d(y, 2) + F.avg_pool2d(y, 2, ceil_mode=False)
        x = F.dropout(x.sigmoid() * 2 - 1, training=self.training)
        x = F.instance_norm(x * self.scale)
        return self.head(torch.cat([x.mean((2, 3)), F.adaptive_avg_pool2d(x, 1).flatten(1)], 1))


def test_functions_methods_and_operations_in_place() -> None:
    torch.manual_seed(0)
    network = randomised(Written())
    ours = require_equal(network, (20, 22), 4, places((20, 22), 4))
    assert ours.whole_map_operations


class Keywords(nn.Module):
    """Calls whose arguments are given by their names, and numbers on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(input=self.first(input=x))
        y = torch.add(input=self.second(x), other=x, alpha=0.5)
        y = torch.cat(tensors=[1 - y, y.mul(other=2)], dim=1)
        y = F.avg_pool2d(input=y, kernel_size=3, stride=1, padding=1) + 1 / (3 + F.relu6(input=y))
        y = torch.cat(tensors=(self.pool(input=y), F.max_pool2d(input=y, kernel_size=2)), axis=1)
        y = F.dropout(input=y, training=False)
        return self.head(torch.mean(input=y, dim=(2, 3)))


def test_arguments_by_name_and_numbers_on_the_left() -> None:
    torch.manual_seed(0)
    ours = require_equal(randomised(Keywords()), (20, 22), 4, places((20, 22), 4))
    assert not ours.whole_map_operations


class Excitation(nn.Module):
    """Squeeze and excitation as in MONAI, which joins lists of numbers to a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        scale = self.linear(self.pool(x).view(b, c)).view([b, c] + [1] * (x.ndim - 2))
        return x * scale


def test_shapes_may_be_joined_from_lists() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.ReLU(), Excitation(), nn.Flatten(), nn.Linear(4 * 5 * 6 * 4, 3)
    )
    space = (7, 8, 6)
    require_equal(randomised(network), space, 2, places(space, 2), ("1",))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x, _ = self.attention(x, x, x)
        return self.head(x.mean(1))


def test_attention_is_computed_on_whole_maps() -> None:
    torch.manual_seed(0)
    require_equal(randomised(Attention()), (16, 24), 3, places((16, 24), 3))
