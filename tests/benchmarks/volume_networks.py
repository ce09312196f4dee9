"""What the incremental engine saves on networks of volumes.

    python tests/benchmarks/volume_networks.py [--networks DenseNet121 ...] [--windows 8]

For each network of MONAI, and the small one of `kind: convolutional`: the share of the arithmetic
of a whole pass that one window in the middle changes (91 x 109 x 91 voxels, k = 7), then
milliseconds per pass of the dense and of the incremental engine and their ratio (l = 11, S = 2),
and what the engine says where it computes whole maps; see networks.py. Weights are random: neither
depends on them. `--quick` shows within seconds that the script runs; its numbers mean nothing.
"""

import argparse
import gc

import numpy as np
import torch
from dense import Sizes
from networks import compared
from scipy.ndimage import gaussian_filter

from preddiff.classifiers import convolutional, monai
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.devices import device_of, use_cores
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian

SPACE = (91, 109, 91)
SMALL = "convolutional"
# Arguments of MONAI's networks that have no defaults.
ARGUMENTS: dict[str, dict[str, object]] = {
    "DenseNet121": {},
    "ResNet": {
        "block": "basic",
        "layers": [2, 2, 2, 2],
        "block_inplanes": [64, 128, 256, 512],
    },
    "SEResNet50": {},
    "EfficientNetBN": {"model_name": "efficientnet-b0"},
}


def make(name: str, space: tuple[int, ...]) -> Network:
    """Build a network of two classes with random weights that are the same in each run."""
    torch.manual_seed(0)
    if name == SMALL:
        module = convolutional.build(4, 1, space, 2)
    else:
        module = monai.build(name, monai.complete(name, ARGUMENTS[name], 1, 2))
    mean = Standardisation((0.0,), (1.0,), 3)
    return Network(prepared(module), {}, ("0", "1"), 100, space, mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [SMALL, *ARGUMENTS]
    parser.add_argument("--networks", nargs="+", default=names, choices=names)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--windows", type=int, default=8, help="windows to evaluate")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="small volumes and windows")
    arguments = parser.parse_args()
    space = (40, 40, 40) if arguments.quick else SPACE
    k, l = (3, 5) if arguments.quick else (7, 11)
    sizes = Sizes(side=0, k=k, l=l, samples=2, patches=2000)
    device = device_of(arguments.device)
    use_cores(arguments.threads)
    noise = np.random.default_rng(0).normal(size=(4, 1, *space)).astype(np.float32)
    volumes = gaussian_filter(noise, 1.5, axes=(2, 3, 4))
    sampler = Conditional(PatchGaussian.fit(volumes, l, patches=sizes.patches))
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':20} share    dense incremental ratio  what is said (ms per pass)")
    for name in arguments.networks:
        found = compared(make(name, space), volumes, sampler, device, sizes, arguments.windows)
        print(f"{name:20} {found}", flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
