"""Networks with random weights, engines for them, and what a forward pass of one costs.

It needs torch, torchvision and NumPy only, since `tests/gpu` uses it as well.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import Precision
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.engines.dense import Dense
from preddiff.samplers.draws import Sampler, generator
from preddiff.targets import Target
from preddiff.windows import Box, Windows

TARGETS = ("probability:top-1", "logit:top-1")
# Without the heads that are for training only.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes
    ----------
    side : int
        Of the images, in pixels.
    k, l, samples : int
        Of the windows.
    patches : int
        That the sampler's Gaussian is fitted on.
    seconds : float
        That plain torch is measured for at each batch size.
    batches : tuple of int, optional
        Batch sizes of plain torch; by default those of the device.
    """

    side: int = 224
    k: int = 10
    l: int = 14
    samples: int = 10
    patches: int = 20_000
    seconds: float = 3
    batches: tuple[int, ...] | None = None


QUICK = Sizes(side=64, k=4, l=6, samples=2, patches=500, seconds=0.1, batches=(2, 4))


def smooth_images(count: int, side: int) -> np.ndarray:
    """Random images whose neighbouring pixels are alike, float32 from 0 to 1."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand((count, 3, 28, 28), generator=source)
    return torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1).numpy()


def make(name: str, side: int) -> Network:
    """One of torchvision's networks, with random weights that are the same in each run."""
    torch.manual_seed(0)
    module = prepared(models.get_model(name, weights=None, **_OPTIONS.get(name, {})))
    mean = Standardisation((0.5,) * 3, (0.25,) * 3)
    classes = tuple(map(str, range(1000)))
    return Network(module, {"torchvision": name}, classes, 1_281_167, (side, side), mean)


def engine(
    kind: type[Dense],
    network: Network,
    sampler: Sampler,
    device: torch.device,
    sizes: Sizes,
    precision: Precision = "float32",
    batch_size: int | None = None,
) -> Dense:
    """An engine for two targets of the item "item"."""
    readout = Readout(tuple(Target.parse(text) for text in TARGETS))
    return kind(
        NetworkNodes(network, readout, {"item": [0, 0]}, device, precision),
        sampler,
        Windows(network.space, sizes.k),
        sizes.samples,
        0,
        batch_size,
        standardisation=network.standardisation,
        device=device,
    )


def seconds_per_pass(one: Dense, x: np.ndarray, blocks: list[Box]) -> float:
    # Once before, for what is prepared for all items: the engine, and conditioning per position. On
    # a GPU, cuDNN looks for the fastest algorithm for each new shape.
    for block in blocks if one.device.type == "cuda" else blocks[:1]:
        one.expectations(x, ["item"], block)
    for block in blocks:
        source = generator(one.seed, "item", block)
        one.sampler.draw(torch.from_numpy(x[0]), "item", one.windows, block, 1, source)
    start = time.perf_counter()
    for block in blocks:
        one.expectations(x, ["item"], block)
    return (time.perf_counter() - start) / (sum(block.size for block in blocks) * one.samples)


def cost(one: Dense, x: np.ndarray, blocks: list[Box]) -> tuple[float, float]:
    """Seconds of a forward pass, and its multiplications and additions."""
    seconds = seconds_per_pass(one, x, blocks)
    middle = blocks[len(blocks) // 2]
    with FlopCounterMode(display=False) as counter:
        one.expectations(x, ["item"], middle)
    return seconds, counter.get_total_flops() / (middle.size * one.samples)
