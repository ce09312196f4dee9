"""How the time of an image grows with k, stride, S and the image's side.

    python tests/benchmarks/growth.py [--network squeezenet1_1] [--device cpu] [--out growth.png]

Prints a table and draws it. Each setting is varied by itself around k = 10, stride 1, S = 10 and
224 x 224 pixels; seconds of an image are extrapolated from a few whole rows of its windows. Beside
them the milliseconds of a pass, its arithmetic and the speed of that. Where arithmetic is done at
like speed, cost is in proportion to what changes. `--quick` shows within seconds that the script
runs; its numbers mean nothing.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from incremental import rows_of
from matplotlib import pyplot
from passes import seconds_per_pass, smooth_images
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from preddiff.classifiers import torchvision
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.devices import device_of, use_cores
from preddiff.engines.incremental.engine import Incremental
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Windows


@dataclass(frozen=True)
class Setting:
    """Windows, draws, side of the image, and patches that the Gaussian is fitted on."""

    k: int = 10
    stride: int = 1
    samples: int = 10
    side: int = 224
    patches: int = 20_000


VARIED = {
    "k": (1, 5, 10, 20),
    "stride": (1, 2, 4),
    "samples": (1, 10, 50),
    "side": (128, 224, 448),
}

QUICK = Setting(k=4, samples=1, side=48, patches=200)
QUICK_VARIED = {"k": (2, 4), "stride": (1, 2), "samples": (1, 2), "side": (48, 64)}


def seconds_of_image(
    name: str, setting: Setting, device: torch.device
) -> tuple[float, float, float]:
    """Seconds for all windows of an image, of a pass, and its multiplications and additions."""
    module = prepared(torchvision.build(name, 1000))
    space = (setting.side, setting.side)
    standardisation = Standardisation((0.5,) * 3, (0.25,) * 3)
    classes = tuple(map(str, range(1000)))
    network = Network(module, {}, classes, 1_281_167, space, standardisation)
    images = smooth_images(6, setting.side)
    gaussian = PatchGaussian.fit(images, setting.k + 4, patches=setting.patches)
    windows = Windows(space, setting.k, setting.stride)
    engine = Incremental(
        NetworkNodes(network, Readout((Target.parse("probability:top-1"),)), {"item": [0]}, device),
        Conditional(gaussian, (0.0, 1.0)),
        windows,
        setting.samples,
        seed=0,
        standardisation=standardisation,
        device=device,
    )
    rows = rows_of(windows, 3, windows.shape[1])
    each = seconds_per_pass(engine, images[:1], rows)
    passes = windows.shape[0] * windows.shape[1] * setting.samples
    with FlopCounterMode(display=False) as counter:
        engine.expectations(images[:1], ["item"], rows[1])
    return each * passes, each, counter.get_total_flops() / (rows[1].size * setting.samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="squeezenet1_1", choices=models.list_models())
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="figure to write")
    parser.add_argument("--quick", action="store_true", help="tiny images, few values")
    arguments = parser.parse_args()
    base, varied = (QUICK, QUICK_VARIED) if arguments.quick else (Setting(), VARIED)
    device = device_of(arguments.device)
    use_cores(arguments.threads)
    figure, axes = pyplot.subplots(
        1, len(varied), figsize=(12, 3), layout="constrained", sharey=True
    )
    print(f"{arguments.network} on {device}: an image, a forward pass, its arithmetic, their ratio")
    for axis, (key, values) in zip(axes, varied.items(), strict=True):
        found = []
        for value in values:
            seconds, each, flops = seconds_of_image(
                arguments.network, replace(base, **{key: value}), device
            )
            print(
                f"{key:8} {value:4}: {seconds:8.1f} s, {each * 1e3:6.2f} ms, "
                f"{flops / 1e9:6.3f} GFLOP, {flops / each / 1e9:5.0f} GFLOP/s",
                flush=True,
            )
            found.append(seconds)
        axis.loglog(values, found, "o-")
        axis.set_xticks(values, labels=map(str, values))
        axis.minorticks_off()
        axis.set_xlabel(key)
    axes[0].set_ylabel("seconds of an image")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
