"""Throughput of the dense engine against plain torch, for the same networks on the same device.

    python tests/benchmarks/dense.py [--networks alexnet ...] [--device cpu] [--windows 100]

For each network: milliseconds per forward pass of plain torch at its best batch size, and of the
engine with drawing and bookkeeping (k = 10, l = 14, S = 10, all targets of a class), as a ratio.
Weights are random: speed does not depend on them. `--quick` shows within seconds that the script
runs; its numbers mean nothing.
"""

import argparse
import gc
import resource
import time

import numpy as np
import torch
from passes import QUICK, TARGETS, Sizes, make, smooth_images
from torchvision import models

from preddiff.classifiers.network import Network
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import arithmetic
from preddiff.classifiers.readout import Readout
from preddiff.devices import device_of, use_cores
from preddiff.engines.dense import Dense
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Box, Windows

BATCHES = {"cpu": (8, 16, 32, 64), "cuda": (128, 256, 512, 1024)}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def plain(
    network: Network, device: torch.device, batch: int, channels_last: bool, seconds: float
) -> float:
    """Seconds per forward pass of plain torch, measured for some seconds."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = network.module.to(device).to(memory_format=layout)
    x = torch.rand((batch, 3, *network.space), device=device).to(memory_format=layout)
    with torch.inference_mode(), arithmetic(device, "float32"):
        module(x)
        wait(device)
        start, passes = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            module(x)
            wait(device)
            passes += batch
        return (time.perf_counter() - start) / passes


def engine(
    network: Network, device: torch.device, images: np.ndarray, windows: int, sizes: Sizes
) -> float:
    """Seconds per forward pass of the dense engine."""
    gaussian = PatchGaussian.fit(images, sizes.l, patches=sizes.patches)
    readout = Readout(tuple(Target.parse(text) for text in TARGETS))
    grid = Windows(network.space, sizes.k)
    dense = Dense(
        NetworkNodes(network, readout, {"item": [0, 0]}, device),
        Conditional(gaussian, (0.0, 1.0)),
        grid,
        sizes.samples,
        seed=0,
        standardisation=network.standardisation,
        device=device,
    )
    # Whole rows in the middle of the image, and few windows on a slow machine.
    rows = max(1, windows // grid.shape[1])
    middle = grid.shape[0] // 2
    block = Box(0, (slice(middle, middle + rows), slice(0, min(windows, grid.shape[1]))))
    first = Box(0, (slice(middle, middle + 1), slice(0, 8)))
    dense.expectations(images[:1], ["item"], first)
    start = time.perf_counter()
    dense.expectations(images[:1], ["item"], block)
    return (time.perf_counter() - start) / (block.size * sizes.samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = ["alexnet", "googlenet", "mobilenet_v2", "vgg16"]
    parser.add_argument("--networks", nargs="+", default=usual, choices=models.list_models())
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="tiny images, short measurements")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    device = device_of(arguments.device)
    batches = sizes.batches or BATCHES[device.type]
    images = smooth_images(20, sizes.side)
    before = {}
    for name in arguments.networks:
        network = make(name, sizes.side)
        before[name] = min(plain(network, device, n, False, sizes.seconds) for n in batches)
    use_cores(arguments.threads)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("ms per pass: torch as it comes | torch, same layout and memory | engine | share of both")
    for name in arguments.networks:
        network = make(name, sizes.side)
        best = min(
            (plain(network, device, batch, channels_last, sizes.seconds), batch)
            for batch in batches
            for channels_last in (False, True)
        )
        ours = engine(network, device, images, arguments.windows, sizes)
        print(
            f"{name:14} {before[name] * 1e3:8.2f} | {best[0] * 1e3:8.2f} (batch {best[1]:4}) | "
            f"{ours * 1e3:8.2f} | {before[name] / ours:5.2f} {best[0] / ours:5.2f}",
            flush=True,
        )
        gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the host {peak:.2f} GB")


if __name__ == "__main__":
    main()
