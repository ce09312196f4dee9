"""Every operation that the incremental engine knows, against whole passes in float64."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import StochasticDepth

from preddiff.classifiers.layers import spatial_means, traced
from preddiff.engines.incremental.operations import table
from tests.unit.engines.incremental.whole_passes import places, randomised, require_equal

SPACES = {2: (22, 25), 3: (17, 15, 16)}
K = 3
CHANNELS = 6
BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
# torch's functions for each number of dimensions.
CONVOLVE = {2: F.conv2d, 3: F.conv3d}
Body = Callable[[Tensor, "Case"], Tensor]


class Case(nn.Module):
    """A convolution, then one operation, then a convolution; its output has all activations."""

    def __init__(self, body: Body | nn.Module, dimensions: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        ones = (1,) * dimensions
        self.dimensions = dimensions
        self.convolve = CONVOLVE[dimensions]
        self.first = CONVOLUTIONS[dimensions](3, CHANNELS, 3, padding=1)
        self.norm = BATCH_NORMS[dimensions](CHANNELS)
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, *[3] * dimensions) / 5)
        self.by_channel = nn.Parameter(torch.randn(CHANNELS, 1, *[3] * dimensions))
        self.layers = nn.Sequential(
            nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, 9), nn.GELU(), nn.Linear(9, CHANNELS)
        )
        self.square = nn.Parameter(torch.randn(CHANNELS, CHANNELS))
        self.vector = nn.Parameter(torch.rand(CHANNELS) + 0.5)
        self.scale = nn.Parameter(torch.rand(CHANNELS, *ones) + 0.5)
        self.axes = list(range(2, 2 + dimensions))
        self.body = body
        found = self.of_body(torch.zeros((1, CHANNELS, *SPACES[dimensions])))
        self.last: nn.Module = nn.Identity()
        if found.ndim == 2 + dimensions:
            self.last = CONVOLUTIONS[dimensions](found.shape[1], 2, 2)

    def of_body(self, x: Tensor) -> Tensor:
        return self.body(x) if isinstance(self.body, nn.Module) else self.body(x, self)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.of_body(self.first(x))).flatten(1)

    def channels_last(self, x: Tensor) -> Tensor:
        return x.permute(0, *self.axes, 1)

    def channels_first(self, x: Tensor) -> Tensor:
        return x.permute((0, -1, *range(1, 1 + self.dimensions)))

    def space(self, x: Tensor) -> list[int]:
        """Sizes that are read off the activations."""
        return [x.size(2), *(x.shape[axis] for axis in self.axes[1:])]

    def shuffled(self, x: Tensor) -> Tensor:
        """As ShuffleNetV2 has it."""
        (n, c), space = (x.size()[0], x.size()[1]), self.space(x)
        x = x.view(n, 3, c // 3, *space)
        return torch.transpose(x, 1, 2).contiguous().view(n, c, *space)

    def in_parts(self, x: Tensor) -> Tensor:
        a, b, c = x.chunk(3, 1)
        d, e = torch.chunk(x, 2, dim=1)
        f, g, h = x.split((1, 2, 3), 1)
        i, j = torch.split(x, 4, 1)
        return torch.cat([torch.cat([c, b, a, e, d], 1)[:, 4:10], h, f, g, j, i], 1)


# By name: what is done with maps, for each number of dimensions that it exists for.
BOTH: dict[str, Body] = {
    "ConvNeXt": lambda x, m: x + m.channels_first(m.layers(m.channels_last(x))),
    "ShuffleNet": lambda x, m: m.shuffled(x) * x.dim(),
    "abs": lambda x, m: torch.abs(x) + x.abs(),
    "activations": lambda x, m: (
        F.celu(x) + F.elu(x) + F.gelu(x) + F.hardsigmoid(x) + F.hardswish(x) + F.hardtanh(x)
        + F.leaky_relu(x, 0.2) + F.mish(x) + F.relu(x) + F.relu6(x) + F.selu(x) + F.sigmoid(x)
        + F.silu(x) + F.softplus(x) + F.softsign(x) + F.tanh(x)
    ),
    "arithmetic": lambda x, m: (
        (1 - x) * x + torch.add(x, x, alpha=2) / 3 - torch.sub(x, m.scale) * torch.mul(2, x)
        + torch.div(x, m.scale) + x.add(1).sub(x).mul(x).div(2)
    ),
    "batch norm": lambda x, m: F.batch_norm(
        x * 2, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias, False, 0.1, 1e-3
    ),
    "channel shuffle": lambda x, m: F.channel_shuffle(x, 3),
    "channels last": lambda x, m: m.channels_first(
        F.linear(F.layer_norm(m.channels_last(x), (CHANNELS,), m.vector, None, 1e-6), m.square)
        * m.vector
    ),
    "clamp": lambda x, m: torch.clamp(x, min=-0.2) + x.clamp(-1, 0.3),
    "clone": lambda x, m: torch.clone(x) + x.clone() + x.contiguous(),
    "concatenation": lambda x, m: torch.concat((x, x * 2), 1)[:, :-CHANNELS],
    "convolution": lambda x, m: m.convolve(x, m.weight, m.vector, 2, 1, 1, 1),
    "convolution by computed weights": lambda x, m: m.convolve(
        x, m.weight / m.weight.square().sum(), padding=x.size(1) - 5, dilation=2
    ),
    "convolution of groups": lambda x, m: m.convolve(x, m.by_channel, groups=CHANNELS),
    "convolution of the same size": lambda x, m: m.convolve(
        x, m.weight[(..., *[slice(2)] * m.dimensions)], padding="same"
    ),
    "convolution without padding": lambda x, m: m.convolve(x, m.weight, padding="valid"),
    "dropout": lambda x, m: F.dropout2d(F.dropout(x, training=m.training), 0.2, m.training),
    "dropout of maps": lambda x, m: F.dropout3d(x, 0.2, False),
    "exponentials": lambda x, m: torch.exp(-x.abs()) + x.tanh().exp() + torch.tanh(x).neg(),
    "global means": lambda x, m: torch.mean(x, m.axes) * m.vector,
    "global means, channels last": lambda x, m: m.channels_last(x).mean([n - 1 for n in m.axes]),
    "global means, keeping axes": lambda x, m: x.mean(m.axes, keepdim=True)[:, :, 0],
    "groups normalised": lambda x, m: F.layer_norm(
        x.unflatten(1, (2, 3)).transpose(2, -1), (3,)
    ).transpose(2, -1).flatten(1, 2),
    "groups summed": lambda x, m: torch.flatten(
        torch.unflatten(torch.cat([x, x * x], 1), 1, (2, CHANNELS)).sum(1), 1, 1
    ),
    "layer scale": lambda x, m: m.scale * x + x * m.vector.reshape(CHANNELS, *[1] * m.dimensions),
    "logarithmic": lambda x, m: torch.sqrt(x.abs()) + x.square().sqrt() + torch.square(x),
    "maximum": lambda x, m: torch.maximum(x, 2 * x) + torch.minimum(x, m.scale),
    "normalisation of channels": lambda x, m: m.scale * (
        (x - x.mean(1, keepdim=True))
        / torch.sqrt((x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True) + 1e-6)
    ),
    "one channel": lambda x, m: x * torch.amax(x, 1).unsqueeze(1) + torch.unsqueeze(x.amin(1), 1),
    "padding by constants": lambda x, m: F.pad(x, (1, 2, 0, -3), value=0.3),
    "padding, circular": lambda x, m: F.pad(x, (1, 2) * m.dimensions, mode="circular"),
    "padding of channels": lambda x, m: F.pad(x[:, :3], (0, 1) * m.dimensions + (1, 2)),
    "padding, reflected": lambda x, m: F.pad(x, (1, 3) * m.dimensions, mode="reflect"),
    "padding, replicated": lambda x, m: F.pad(x, (2, 1) * m.dimensions, mode="replicate"),
    "parts": lambda x, m: m.in_parts(x),
    "parts of the channels": lambda x, m: torch.cat([x[:, 2:], x[:, :2]], dim=1),
    "powers": lambda x, m: torch.pow(x, 2) + x**3 + x.pow(2) + (1 + x**2).rsqrt(),
    "prelu": lambda x, m: F.prelu(x, m.vector),
    "relu": lambda x, m: torch.relu(x) + x.relu() + x.sigmoid() + torch.sigmoid(x),
    "resizing": lambda x, m: F.interpolate(x, scale_factor=2.0),
    "resizing by another name": lambda x, m: F.upsample(x, size=[n + 9 for n in m.space(x)]),
    "reversed": lambda x, m: torch.neg(torch.rsqrt(1 + torch.square(x))),
    "softmax": lambda x, m: F.softmax(x, 1) + torch.softmax(x, 1) + x.softmax(dim=1),
    "statistics of channels": lambda x, m: x * torch.sum(x, 1, keepdim=True)
    + torch.amin(x, (1,), True) * x.amax(1, True) - x.sum((1,), True),
    "strided part": lambda x, m: x[(..., *[slice(1, None, 2)] * m.dimensions)],
    "transposed": lambda x, m: x.transpose(-1, -2),
    "views": lambda x, m: torch.reshape(
        torch.permute(
            x.reshape(x.size(0), 2, -1, *m.space(x)), (0, 2, 1, *(n + 1 for n in m.axes))
        ),
        x.shape,
    ),
}  # fmt: skip
FLAT: dict[str, Body] = {
    "adaptive averages": lambda x, m: F.adaptive_avg_pool2d(x, (5, 7)),
    "adaptive average of all": lambda x, m: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "average pooling": lambda x, m: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "bicubic": lambda x, m: F.interpolate(x, scale_factor=1.7, mode="bicubic"),
    "bilinear": lambda x, m: F.interpolate(x, (31, 20), mode="bilinear", align_corners=True),
    "by area": lambda x, m: F.interpolate(x, (10, 13), mode="area"),
    "max pooling": lambda x, m: F.max_pool2d(x, 3, 2, padding=1),
    "nearest, exactly": lambda x, m: F.interpolate(x, (30, 40), mode="nearest-exact"),
    "smoothed": lambda x, m: F.interpolate(x, (9, 12), mode="bilinear", antialias=True),
}
DEEP: dict[str, Body] = {
    "adaptive averages": lambda x, m: F.adaptive_avg_pool3d(x, (5, 4, 6)),
    "average pooling": lambda x, m: F.avg_pool3d(x, 2, ceil_mode=True),
    "max pooling": lambda x, m: F.max_pool3d(x, 2),
    "trilinear": lambda x, m: F.interpolate(x, scale_factor=1.5, mode="trilinear"),
}
MODULES: dict[int, list[nn.Module]] = {
    2: [
        *(
            nn.Conv2d(6, 6, (3, 2), padding=(2, 1), padding_mode=mode)
            for mode in ("zeros", "reflect", "replicate", "circular")
        ),
        nn.Conv2d(6, 6, 4, padding="same", dilation=2),
        nn.Conv2d(6, 6, 4, padding="same", padding_mode="reflect"),
        nn.Conv2d(6, 6, 3, padding="valid", groups=2),
        nn.CircularPad2d((1, 2, 0, 1)), nn.ConstantPad2d((2, 0, 1, 1), 0.7),
        nn.ReflectionPad2d((3, 1, 0, 2)), nn.ReplicationPad2d(2), nn.ZeroPad2d((0, 1, 0, 1)),
        nn.ZeroPad2d(-1),
        nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((3, None)),
        nn.Upsample(scale_factor=(2, 1.5)), nn.Upsample((30, 31), mode="bilinear"),
        nn.UpsamplingBilinear2d(scale_factor=2), nn.UpsamplingNearest2d(scale_factor=3),
        nn.BatchNorm2d(6), nn.Dropout2d(),
    ],
    3: [
        *(
            nn.Conv3d(6, 6, 3, padding=1, padding_mode=mode)
            for mode in ("zeros", "reflect", "replicate", "circular")
        ),
        nn.CircularPad3d(1), nn.ConstantPad3d((2, 0, 1, 1, 0, 1), 0.7), nn.ReflectionPad3d(2),
        nn.ReplicationPad3d((0, 1, 2, 0, 1, 1)), nn.ZeroPad3d(1),
        nn.MaxPool3d(2), nn.AvgPool3d(3, 2, 1), nn.AdaptiveAvgPool3d(4),
        nn.Upsample(scale_factor=2), nn.BatchNorm3d(6), nn.Dropout3d(),
    ],
}  # fmt: skip
OF_BOTH: list[nn.Module] = [
    *(kind() for kind in (
        nn.CELU, nn.Dropout, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
        nn.Identity, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid,
        nn.Softplus, nn.Softsign, nn.Tanh,
    )),
    nn.ChannelShuffle(2), nn.PReLU(6), StochasticDepth(0.3, "row"),
    nn.Sequential(nn.Unflatten(1, (3, 2)), nn.ReLU(), nn.Flatten(1, 2)),
]  # fmt: skip


def cases() -> list[Any]:
    found: list[Any] = []
    for dimensions, own in ((2, FLAT), (3, DEEP)):
        found += [
            pytest.param(body, dimensions, id=f"{dimensions}-{name}")
            for name, body in {**BOTH, **own}.items()
        ]
        found += [
            pytest.param(module, dimensions, id=f"{dimensions}-{module}")
            for module in (*MODULES[dimensions], *OF_BOTH)
        ]
    return found


@pytest.mark.parametrize(("body", "dimensions"), cases())
def test_operation(body: Body | nn.Module, dimensions: int) -> None:
    space = SPACES[dimensions]
    network = randomised(Case(copy.deepcopy(body), dimensions))
    starts = places(space, K)
    # Together, and with boxes of their own sizes at corners and in the middle.
    for some in (starts, *np.split(starts[:3], 3)):
        ours = require_equal(network, space, K, some)
        assert not ours.whole_map_operations


def test_every_operation_of_the_table_has_a_case() -> None:
    functions, modules = set(), set()
    for parameters in cases():
        body, dimensions = parameters.values
        graph = traced(Case(copy.deepcopy(body), dimensions).eval())
        for node in graph.graph.nodes:
            if node.op == "call_module":
                modules.add(type(graph.get_submodule(node.target)))
            else:
                functions.add(node.target)
    # Means of layers are those that targets name; see test_network.py.
    assert table._FUNCTIONS.keys() - functions == {spatial_means}
    assert table._MODULES.keys() - modules == set()
