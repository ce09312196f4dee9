"""Networks, in what libraries with hooks find difficult, and classifiers of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.standardisation import Standardisation
from preddiff.targets import Target

ITEM = "item"
LOGITS = [Target("logit", "0"), Target("logit", "2")]
CLASSES = (0, 2)


class Awkward(nn.Module):
    """Functions, a module that is used again, changes in place, branches and an addition."""

    def __init__(self, *, clipped: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=bias)
        self.relu = nn.ReLU6(inplace=True) if clipped else nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.conv3 = nn.Conv2d(4, 4, 1, bias=bias)
        self.head = nn.Linear(8, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        y = self.conv2(x)
        y += x
        y = self.relu(y)
        z = functional.relu(self.conv3(y), inplace=True)
        both = torch.cat([functional.avg_pool2d(y, 2), functional.avg_pool2d(z, 2)], 1)
        return self.head(functional.adaptive_avg_pool2d(both, 1).flatten(1))


def images(*, clipped: bool = False, bias: bool = True) -> Network:
    """A classifier of images (3, 8, 8)."""
    torch.manual_seed(1)
    return classifier(Awkward(clipped=clipped, bias=bias), (8, 8), 3)


def volumes(*, bias: bool = True) -> Network:
    """A classifier of volumes (1, 6, 7, 6)."""
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1, bias=bias),
        nn.BatchNorm3d(4, affine=bias),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(2),
        nn.Conv3d(4, 4, 3, padding=1, bias=bias),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, 3, bias=bias),
    )
    return classifier(network, (6, 7, 6), 1)


def classifier(network: nn.Module, space: tuple[int, ...], channels: int) -> Network:
    standardisation = Standardisation((0.5,) * channels, (0.25,) * channels)
    names = ("0", "1", "2")
    return Network(prepared(network), {"digits": 1}, names, 100, space, standardisation)


def nodes_of(network: Network, targets: list[Target] = LOGITS) -> NetworkNodes:
    classes = [int(t.label) if t.kind != "map" else 0 for t in targets]
    return network.nodes(targets, {ITEM: classes})


def item_of(network: Network) -> Tensor:
    """A standardised item, with values around 0."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn((network.channels, *network.space), generator=generator)
