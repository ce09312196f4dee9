"""What the incremental engine saves, network by network, and why not more.

    python tests/benchmarks/networks.py [--networks alexnet ...] [--device cpu] [--windows 8]

For each network: the share of the arithmetic of a whole pass that one window in the middle changes
(k = 10, 224 x 224), then milliseconds per pass of the dense and of the incremental engine and their
ratio (l = 14, S = 10, drawing and bookkeeping included; windows in the middle row, a quarter of
them with the dense engine), and what the engine says where it computes whole maps. Weights are
random: neither depends on them. `--quick` shows within seconds that the script runs; its numbers
mean nothing.
"""

import argparse
import contextlib
import gc
import io

import numpy as np
import torch
from dense import QUICK, Sizes, make, smooth_images
from passes import engine, seconds_per_pass
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from preddiff.classifiers.layers import traced
from preddiff.classifiers.network import Network
from preddiff.devices import device_of, use_cores
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.boxes import Boxes
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.incremental.network import IncrementalNetwork
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.windows import Box, Windows

USUAL = [
    "vgg16", "googlenet", "alexnet", "resnet18", "squeezenet1_1", "resnet50", "densenet121",
    "efficientnet_v2_s", "mobilenet_v2", "inception_v3", "shufflenet_v2_x1_0", "regnet_x_400mf",
    "mnasnet1_0", "mobilenet_v3_large", "convnext_tiny", "efficientnet_b0", "vit_b_16", "swin_t",
]  # fmt: skip


@torch.inference_mode()
def share(network: Network, k: int) -> float:
    """Share of the arithmetic of a whole pass that one window in the middle changes."""
    module = network.module.cpu()
    ours = IncrementalNetwork(traced(module))
    x = torch.zeros((1, network.channels, *network.space))
    intact = ours.intact(x)
    with FlopCounterMode(display=False) as whole:
        module(x)
    start = np.array([[(n - k) // 2 for n in network.space]])
    side = (k,) * len(network.space)
    with FlopCounterMode(display=False) as changed:
        ours.outputs(intact, torch.zeros((1, network.channels, *side)), Boxes(start, side))
    return changed.get_total_flops() / whole.get_total_flops()


def in_the_middle(windows: Windows, count: int) -> Box:
    """Windows of the middle row."""
    *rows, column = (n // 2 for n in windows.shape)
    along = slice(column - count // 2, column + (count + 1) // 2)
    return Box(0, (*(slice(row, row + 1) for row in rows), along))


def compared(
    network: Network,
    images: np.ndarray,
    sampler: Sampler,
    device: torch.device,
    sizes: Sizes,
    count: int,
) -> str:
    """Share, milliseconds per pass of both engines, their ratio, and what the engine says."""
    try:
        changed = f"{share(network, sizes.k):5.2f}"
    except Exception as error:
        # Whatever a network raises that cannot be evaluated in this way.
        changed = f"{type(error).__name__:>5}"
    windows = Windows(network.space, sizes.k)
    few, many = ([in_the_middle(windows, max(1, n))] for n in (count // 4, count))
    dense = seconds_per_pass(engine(Dense, network, sampler, device, sizes), images[:1], few)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        incremental = engine(Incremental, network, sampler, device, sizes)
        ours = seconds_per_pass(incremental, images[:1], many)
    reasons = "; ".join(said.getvalue().splitlines())
    return f"{changed} {dense * 1e3:8.2f} {ours * 1e3:11.2f} {dense / ours:5.2f}  {reasons}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=USUAL, choices=models.list_models())
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--windows", type=int, default=8, help="windows to evaluate")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="tiny images and few draws")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes(patches=5000)
    device = device_of(arguments.device)
    use_cores(arguments.threads)
    images = smooth_images(20, sizes.side)
    sampler = Conditional(PatchGaussian.fit(images, sizes.l, patches=sizes.patches), (0.0, 1.0))
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':20} share    dense incremental ratio  what is said (ms per pass)")
    for name in arguments.networks:
        network = make(name, sizes.side)
        found = compared(network, images, sampler, device, sizes, arguments.windows)
        print(f"{name:20} {found}", flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
