"""What is evaluated: small networks in two and three dimensions, in float64 too, and draws."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import Precision
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.engines.dense import Dense
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler
from preddiff.samplers.gaussian import ConditionalDistribution, PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Box, Windows, inside

CLASSES = ("a", "b", "c")
_PATCHES = 3000


class _Conditioned(ConditionalDistribution):
    @property
    def factor(self) -> np.ndarray:
        return np.linalg.cholesky(self.covariance)


class NumPyGaussian(PatchGaussian):
    """A patch Gaussian that is conditioned by NumPy alone, where SciPy may be missing."""

    def conditional(self, cell: int, k: int, position: tuple[int, ...]) -> ConditionalDistribution:
        within = inside(k, self.l, position, self.channels)
        around = self.covariance[np.ix_(~within, ~within)]
        between = self.covariance[np.ix_(~within, within)]
        weights = np.linalg.solve(around, between).T
        covariance = self.covariance[np.ix_(within, within)] - weights @ between
        offset = self.mean[within] - weights @ self.mean[~within]
        return _Conditioned(within, weights, offset, (covariance + covariance.T) / 2)


@dataclass(frozen=True)
class InFloat64:
    """Another sampler's draws, in float64."""

    sampler: Sampler
    random = True

    def draw(self, x: Tensor, *args: Any) -> Tensor:
        return self.sampler.draw(x.float(), *args).double()


class SmallNetwork(nn.Module):
    """A strided convolution, branches, a sum, poolings and batch normalisation, in d dimensions."""

    def __init__(self, dimensions: int, channels: int) -> None:
        super().__init__()
        convolution = getattr(nn, f"Conv{dimensions}d")
        self.stem = nn.Sequential(
            convolution(channels, 8, 5, stride=2, padding=2),
            getattr(nn, f"BatchNorm{dimensions}d")(8),
            nn.ReLU(inplace=True),
        )
        self.near = convolution(8, 8, 3, padding=1)
        self.pooled = nn.Sequential(
            getattr(nn, f"AvgPool{dimensions}d")(3, 1, 1), convolution(8, 8, 1)
        )
        self.shrink = getattr(nn, f"MaxPool{dimensions}d")(3, 2, ceil_mode=True)
        self.last = convolution(16, 16, 3, padding=1)
        self.means = getattr(nn, f"AdaptiveAvgPool{dimensions}d")(1)
        self.head = nn.Linear(16, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.shrink(torch.relu(torch.cat([self.near(x), self.pooled(x)], 1)))
        return self.head(torch.flatten(self.means(torch.relu(x + self.last(x))), 1))


@dataclass(frozen=True)
class Subject:
    """A network, an input and windows, on which engines are compared.

    Attributes
    ----------
    network : Network
    x : float32 array (1, channels, *space)
    sampler : Sampler
    windows : Windows
    block : Box
    samples : int
    targets : tuple of str
    """

    network: Network
    x: np.ndarray
    sampler: Sampler
    windows: Windows
    block: Box
    samples: int
    targets: tuple[str, ...]

    def in_float64(self) -> "Subject":
        """Return the same subject in float64; its draws are those of float32."""
        module = self.network.module.double()
        return replace(
            self,
            network=replace(self.network, module=module),
            x=self.x.astype(np.float64),
            sampler=InFloat64(self.sampler),
        )

    def engine(
        self,
        kind: type[Dense],
        device: torch.device | str,
        precision: Precision = "float32",
        batch_size: int | None = None,
    ) -> Dense:
        readout = Readout(tuple(Target.parse(text) for text in self.targets))
        return kind(
            NetworkNodes(
                self.network, readout, {"item": [0] * len(self.targets)}, device, precision
            ),
            self.sampler,
            self.windows,
            self.samples,
            0,
            batch_size,
            standardisation=self.network.standardisation,
            device=device,
        )


def small(dimensions: int) -> Subject:
    """A small network with an input, and windows from corner to corner."""
    space, channels = ((32, 36), 3) if dimensions == 2 else ((18, 20, 16), 1)
    torch.manual_seed(0)
    module = SmallNetwork(dimensions, channels)
    source = torch.Generator().manual_seed(1)
    images = torch.rand((12, channels, *(-(-n // 4) for n in space)), generator=source)
    mode = "bilinear" if dimensions == 2 else "trilinear"
    images = nn.functional.interpolate(images, space, mode=mode)
    with torch.no_grad():
        # Statistics of batch normalisation that are not those of a new network.
        module.train()(images)
    standardisation = Standardisation((0.5,) * channels, (0.25,) * channels)
    network = Network(prepared(module), {}, CLASSES, 50, space, standardisation)
    x = images.numpy()
    k, l, stride = (4, 6, 3) if dimensions == 2 else (4, 6, 4)
    gaussian = NumPyGaussian.fit(x, l, patches=_PATCHES)
    windows = Windows(space, k, stride)
    targets = ("probability:0", "logit:1", "map:near:2")
    sampler = Conditional(gaussian, (0.0, 1.0))
    return Subject(network, x[:1], sampler, windows, windows.everything, 4, targets)
