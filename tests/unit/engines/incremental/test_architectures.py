"""Networks as other libraries build them, small, against whole passes in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig

from preddiff.classifiers.layers import traced
from preddiff.engines.incremental.rewriting import rewritten
from tests.unit.engines.incremental.whole_passes import places, randomised, require_equal

K = 4
SPACES = {2: (47, 52), 3: (44, 40, 42)}


class SameSize(nn.Conv2d):
    """Padded by what the size of the input asks for, as `Conv2dSame` of timm."""

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for axis in (-1, -2):
            length, stride, kernel = x.shape[axis], self.stride[axis], self.kernel_size[axis]
            total = (-(-length // stride) - 1) * stride + kernel - length
            padding += [total // 2, total - total // 2]
        x = F.pad(x, padding)
        options = (self.stride, 0, self.dilation, self.groups)
        return F.conv2d(x, self.weight, self.bias, *options)


class PaddedByModule(nn.Conv2d):
    """Padded by a module, as in EfficientNet-Lite."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # As TensorFlow pads: to the same size, and less before than after where that is odd.
        self.pad = nn.ZeroPad2d((0, 1, 0, 1) if self.stride == (2, 2) else 1)

    def forward(self, x: Tensor) -> Tensor:
        options = (self.stride, self.padding, self.dilation, self.groups)
        return F.conv2d(self.pad(x), self.weight, self.bias, *options)


def lite(convolution: type[nn.Conv2d]) -> nn.Module:
    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [
            convolution(before, after, 3, stride, bias=False), nn.BatchNorm2d(after), nn.ReLU6(),
            convolution(after, after, 3, 1, groups=after), nn.BatchNorm2d(after), nn.ReLU6(),
        ]  # fmt: skip

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)]
    return nn.Sequential(*block(3, 8, 2), *block(8, 8, 1), *block(8, 12, 2), *head)


class DenseLayer(nn.Module):
    """Layer of a 3-D DenseNet, as MONAI has it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm3d(channels), nn.ReLU(inplace=True),
            nn.Conv3d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm3d(4 * growth), nn.ReLU(inplace=True),
            nn.Conv3d(4 * growth, growth, 3, padding=1, bias=False),
            nn.Dropout3d(0.1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


def dense_volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(3, 2, 1),
        DenseLayer(8, 4), DenseLayer(12, 4),
        nn.BatchNorm3d(16), nn.ReLU(), nn.Conv3d(16, 8, 1), nn.AvgPool3d(2, 2),
        DenseLayer(8, 4), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


class ResidualBlock(nn.Module):
    """Block of a 3-D ResNet, whose shortcut cuts and pads (type A) as MONAI can have it."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv3d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm3d(after) for _ in range(2))
        self.stride, self.added = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        step = slice(None, None, self.stride)
        y += F.pad(x[:, :, step, step, step], (0,) * 7 + (self.added,))
        return F.relu(y)


def residual_volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 6, 3, 1, 1), ResidualBlock(6, 6, 1), ResidualBlock(6, 8, 2),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


NETWORKS = {
    "Conv2dSame": (2, lambda: lite(SameSize)),
    "EfficientNet-Lite": (2, lambda: lite(PaddedByModule)),
    "3-D DenseNet": (3, dense_volumes),
    "3-D ResNet": (3, residual_volumes),
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomised(NETWORKS[name][1]())


@pytest.mark.parametrize("name", NETWORKS)
def test_corners_borders_and_middle(name: str) -> None:
    space = SPACES[NETWORKS[name][0]]
    starts = places(space, K)
    for some in (starts, *np.split(starts[:3], 3)):
        assert not require_equal(built(name), space, K, some).whole_map_operations


@settings(max_examples=15)
@given(st.data(), st.sampled_from(sorted(NETWORKS)), st.integers(1, 6))
def test_windows_anywhere(data, name: str, k: int) -> None:
    space = SPACES[NETWORKS[name][0]]
    starts = st.tuples(*(st.integers(0, n - k) for n in space))
    some = data.draw(st.lists(starts, min_size=1, max_size=3))
    require_equal(built(name), space, k, np.array(some))


@pytest.mark.parametrize("convolution", [SameSize, PaddedByModule])
def test_batch_normalisation_is_folded_into_functional_convolutions(convolution) -> None:
    graph = rewritten(traced(randomised(lite(convolution))))
    left = {node.target for node in graph.graph.nodes}
    assert F.conv2d not in left
    modules = [
        graph.get_submodule(str(n.target)) for n in graph.graph.nodes if n.op == "call_module"
    ]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in modules)


def test_symmetric_padding_by_zeros_is_folded_into_convolutions() -> None:
    graph = rewritten(traced(randomised(lite(PaddedByModule))))
    modules = [
        graph.get_submodule(str(n.target)) for n in graph.graph.nodes if n.op == "call_module"
    ]
    left = [one.padding for one in modules if isinstance(one, nn.ZeroPad2d)]
    assert left == [(0, 1, 0, 1)] * 2
    own = [one.padding for one in modules if isinstance(one, nn.Conv2d)]
    assert own == [(0, 0), (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)]


@pytest.mark.parametrize(
    "layers",
    [
        (nn.ZeroPad2d((2, 2, 1, 1)), nn.Conv2d(3, 4, 3, 2)),
        (nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3, padding=1)),
        (nn.ZeroPad2d(-1), nn.Conv2d(3, 4, 3)),
        (nn.ConstantPad2d(1, 0.5), nn.Conv2d(3, 4, 3)),
        (nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3)),
    ],
    ids=lambda layers: type(layers[0]).__name__ + str(layers[0].padding),
)
def test_padding_before_a_convolution(layers: tuple[nn.Module, ...]) -> None:
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    network = randomised(nn.Sequential(*layers, *head))
    require_equal(network, SPACES[2], K, places(SPACES[2], K))


def test_squeeze_and_excitation_is_computed_on_whole_maps_from_there_on() -> None:
    torch.manual_seed(0)
    stages = [
        FusedMBConvConfig(1, 3, 1, 8, 8, 1),
        FusedMBConvConfig(4, 3, 2, 8, 16, 1),
        MBConvConfig(4, 3, 2, 16, 24, 1),
    ]
    network = EfficientNet(stages, dropout=0.2, last_channel=32, num_classes=4)
    ours = require_equal(randomised(network), (120, 112), K, places((120, 112), K)[2:3])
    assert list(ours.whole_map_operations) == ["mul"]
