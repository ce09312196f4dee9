"""A map of a volume at a chosen accuracy: what it costs, and whether its error is what it says.

    python tests/benchmarks/volume.py [--accuracy 0.05] [--side 12] [--samples 10]

A small 3-D network learns to tell smooth random volumes of 91 x 109 x 91 voxels with a dark sphere
from those without, and the probability of the sphere is explained for one of them by windows of
k = 7 voxels with surroundings of l = 11. Printed are, level by level, the forward passes as a share
of the paper's (S = 10, stride 1), seconds, and the error that the map has; then, in a region of
`--side` windows cubed around the map's largest magnitude, the error against `--samples` draws of
all windows beside what `error` says there, the noise of that reference, and the correlation.
`--quick` shows within seconds that the script runs; its numbers mean nothing.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from preddiff.classifiers.network import Network
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.devices import device_of, use_cores
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.refined import levels
from preddiff.evidence import Evidence, relevance, standard_error, weight_of_evidence_slope
from preddiff.refinement import Refinement
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Box, Windows

TARGET = Target.parse("probability:1")
TRAINING_SIZE, CLASSES = 1000, 2


@dataclass(frozen=True)
class Sizes:
    space: tuple[int, int, int]
    k: int
    l: int
    radius: float
    steps: int
    patches: int


FULL = Sizes((91, 109, 91), 7, 11, 9.0, 60, 20_000)
QUICK = Sizes((24, 26, 24), 4, 6, 4.0, 3, 2_000)


def volume(sizes: Sizes, number: int) -> tuple[np.ndarray, int]:
    """A smooth random volume (1, *space), and whether it has a dark sphere."""
    random = np.random.default_rng(number)
    values = gaussian_filter(random.normal(size=sizes.space), 2, mode="wrap")
    values = 0.5 + 0.1 * values / values.std()
    label = number % 2
    if label:
        place = np.array(sizes.space) * random.uniform(0.3, 0.7, 3)
        grid = np.indices(sizes.space) - place.reshape(3, 1, 1, 1)
        distance = np.sqrt(np.square(grid).sum(0))
        values -= 0.25 / (1 + np.exp(2 * (distance - sizes.radius)))
    return values[None].astype(np.float32), label


def trained(sizes: Sizes) -> Network:
    """A small network of three convolutions, trained for a minute."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv3d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv3d(8, 16, 3, stride=2), nn.ReLU(),
        nn.Conv3d(16, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for step in range(sizes.steps):
        pairs = [volume(sizes, 4 * step + number) for number in range(4)]
        x = (torch.from_numpy(np.stack([x for x, _ in pairs])) - 0.5) / 0.1
        loss = nn.functional.cross_entropy(module(x), torch.tensor([y for _, y in pairs]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"loss of the last step: {loss:.3f}")
    standardisation = Standardisation((0.5,), (0.1,))
    module = module.eval().requires_grad_(False)
    return Network(module, {}, ("0", "1"), TRAINING_SIZE, sizes.space, standardisation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accuracy", type=float, default=0.05)
    parser.add_argument("--side", type=int, default=12, help="windows of the reference region")
    parser.add_argument("--samples", type=int, default=10, help="draws of the reference")
    parser.add_argument("--threads", type=int, help="cores (default: all)")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    sizes = QUICK if arguments.quick else FULL
    if arguments.quick:
        arguments.side, arguments.accuracy = 6, 0.5
    network = trained(sizes)
    training = np.stack([volume(sizes, 1000 + number)[0] for number in range(12)])
    sampler = Conditional(PatchGaussian.fit(training, l=sizes.l, patches=sizes.patches))
    x, _ = volume(sizes, 2001)
    windows = Windows(sizes.space, sizes.k)
    nodes = NetworkNodes(network, Readout((TARGET,)), {"item": [1]}, device_of("auto"), "float32")
    standard = {"standardisation": network.standardisation, "device": device_of("auto")}
    engine = Incremental(nodes, sampler, windows, 2, 0, **standard)

    paper = 10 * windows.everything.size
    evidence = Evidence(None, TRAINING_SIZE, CLASSES)
    refinement = Refinement(windows, [TARGET], evidence)
    print(f"{windows.everything.size:,} windows, {torch.get_num_threads()} threads")
    print("level | passes 1/ | seconds | error")
    start = time.perf_counter()
    for level in levels(engine, refinement, x, "item"):
        passes, reached = level.drawn.passes, level.estimate.reached
        seconds = time.perf_counter() - start
        print(f"{level.number:5d} | {paper / passes:9.0f} | {seconds:7.0f} | {reached[0]:5.3f}")
        if refinement.is_reached(passes, reached, arguments.accuracy):
            break

    maps = level.estimate.relevance[0]
    middle = np.unravel_index(np.abs(maps).argmax(), windows.space)
    starts = [
        int(np.clip(m - sizes.k // 2 - arguments.side // 2, 0, n - arguments.side))
        for m, n in zip(middle, windows.shape, strict=True)
    ]
    box = Box(0, tuple(slice(s, s + arguments.side) for s in starts))
    other = Incremental(nodes, sampler, windows, arguments.samples, 1, **standard)
    found = other.expectations(x[None], ["item"], box)
    own = found.reference[0, 0], found.change[0, 0]
    values, _ = evidence.of_draws(TARGET, *own, found.variance[0, 0], arguments.samples)
    slope = weight_of_evidence_slope(*own, TRAINING_SIZE, CLASSES)
    noise = np.abs(slope) * np.sqrt(found.variance[0, 0] / arguments.samples)
    # Windows of the region as an input of their own: its inner voxels have all their windows.
    region = Windows((arguments.side + sizes.k - 1,) * 3, sizes.k)
    inner = (slice(sizes.k - 1, arguments.side),) * 3
    truth, own_noise = relevance(values, region)[inner], standard_error(noise, region)[inner]
    voxels = tuple(slice(s + sizes.k - 1, s + arguments.side) for s in starts)
    largest = np.abs(maps).max()

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt(np.square(values).mean()) / largest)

    said = level.estimate.error[0][voxels]
    correlation = np.corrcoef(maps[voxels].ravel(), truth.ravel())[0, 1]
    print(
        f"in {truth.size} voxels: error {rms(maps[voxels] - truth):.3f}, said {rms(said):.3f}, "
        f"noise of the reference {rms(own_noise):.3f}, correlation {correlation:.3f}"
    )


if __name__ == "__main__":
    main()
