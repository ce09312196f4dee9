"""The incremental engine against the dense one and against Captum, on the same device.

    python tests/benchmarks/incremental.py [--networks alexnet ...] [--device cpu] [--peak 790]

For each network, milliseconds per forward pass with k = 10, l = 14, S = 10, drawing and bookkeeping
included: whole passes (the dense engine), recomputing changes (the incremental engine) in float32
and bfloat16, and Captum's `Occlusion`, which fills the same windows with one constant. Whole rows
of windows are evaluated, spread over the image from border to border; their ratio is that of an
image, whose seconds stand in brackets. With `--peak`, the device's TFLOP/s, a second line tells
which share of the time taken the arithmetic alone would need at that speed. Weights are random:
speed does not depend on them. Captum is installed by `pip install --no-deps captum`, since it asks
for an old NumPy; without it, its column says so. `--quick` shows within seconds that the script
runs; its numbers mean nothing.
"""

import argparse
import gc
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from dense import wait
from passes import QUICK, Sizes, cost, engine, make, smooth_images
from torchvision import models

from preddiff.classifiers.network import Network
from preddiff.classifiers.precision import Precision
from preddiff.devices import device_of, use_cores
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.windows import Box, Windows

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
USUAL = ["alexnet", "googlenet", "squeezenet1_1", "mobilenet_v2", "resnet50", "vgg16"]


def rows_of(windows: Windows, rows: int, columns: int) -> list[Box]:
    """Blocks of one row each, spread from border to border."""
    numbers = np.unique(np.linspace(0, windows.shape[0] - 1, rows).round().astype(int))
    middle = (windows.shape[1] - columns) // 2
    return [
        Box(0, (slice(int(row), int(row) + 1), slice(middle, middle + columns))) for row in numbers
    ]


def occlusion(network: Network, device: torch.device, x: np.ndarray, k: int) -> float | None:
    """Seconds per forward pass of Captum's `Occlusion`, of windows that do not overlap.

    None if Captum is not installed.
    """
    try:
        from captum.attr import Occlusion
    except ModuleNotFoundError as error:
        if error.name != "captum":
            raise
        return None
    module: Callable[[torch.Tensor], torch.Tensor] = network.module.to(device)
    image = network.standardisation.image(torch.from_numpy(x)).to(device)
    count = (-(-(network.space[0] - k) // k) + 1) ** 2
    with torch.inference_mode():
        start = time.perf_counter()
        Occlusion(module).attribute(
            image, (3, k, k), (3, k, k), target=0, perturbations_per_eval=32
        )
        wait(device)
    return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=USUAL, choices=models.list_models())
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--rows", type=int, default=6, help="rows of windows to evaluate")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, as 790 of an H200")
    parser.add_argument("--quick", action="store_true", help="tiny images and few draws")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    device = device_of(arguments.device)
    use_cores(arguments.threads)
    images = smooth_images(20, sizes.side)
    gaussian = PatchGaussian.fit(images, sizes.l, patches=sizes.patches)
    sampler = Conditional(gaussian, (0.0, 1.0))
    x = images[:1]
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("ms per pass (seconds of an image) and ratio to dense passes; peak memory of the host")
    print(f"{'':14} {'Captum':>23} {'dense':>8} {'incremental':>22} {'bfloat16':>22} {'memory':>8}")
    for name in arguments.networks:
        network = make(name, sizes.side)
        windows = Windows(network.space, sizes.k)
        passes = windows.shape[0] * windows.shape[1] * sizes.samples
        full = rows_of(windows, arguments.rows, windows.shape[1])
        few = full if device.type == "cuda" else rows_of(windows, 2, 32)
        # One engine after the other, so that the peak of memory is that of one.
        dense, dense_flops = cost(engine(Dense, network, sampler, device, sizes), x, few)
        ours = [
            cost(engine(Incremental, network, sampler, device, sizes, precision), x, full)
            for precision in PRECISIONS
        ]
        columns = [
            f"{each * 1e3:6.2f} ({each * passes:4.0f} s) {dense / each:6.2f}" for each, _ in ours
        ]
        captum = occlusion(network, device, x, sizes.k)
        first = "captum is not installed" if captum is None else f"{captum * 1e3:.2f}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name:14} {first:>23} {dense * 1e3:8.2f} {columns[0]:>22} {columns[1]:>22} "
            f"{peak:5.2f} GB",
            flush=True,
        )
        if arguments.peak:
            shares = [
                f"{flops / (arguments.peak * 1e12) / each:.1%}"
                for each, flops in ((dense, dense_flops), *ours)
            ]
            print(f"{'of the floor':38} {shares[0]:>8} {shares[1]:>22} {shares[2]:>22}", flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
