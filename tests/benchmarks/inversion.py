"""Seconds per image of guided feature inversion, with and without folded batch normalisations.

    python tests/benchmarks/inversion.py [--network mobilenet_v2] [--targets 1 2] [--threads 2]

For each number of targets: seconds per image (80 steps, preset `paper`), in both ways, and the
ratio of the folded time to that of as many forward passes of plain torch. Weights and images are
random: speed does not depend on them. With a store of maps of two classes, the share of items whose
masks differ (correlation under 0.9):

    python tests/benchmarks/inversion.py --store results/methods/relevance/mobilenet-inversion.zarr

`--quick` shows within seconds that the script runs; its numbers mean nothing.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision import models

from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.devices import use_cores
from preddiff.methods.feature_inversion import FeatureInversion
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import array
from preddiff.targets import Target


def seconds(work: Callable[[], object]) -> float:
    """Shortest of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(name: str, targets: int, side: int, method: FeatureInversion) -> None:
    """Print the times of one network and number of targets."""
    torch.manual_seed(0)
    network = Network(
        prepared(models.get_model(name)),
        {"torchvision": name},
        tuple(map(str, range(1000))),
        1_281_167,
        (side, side),
        Standardisation((0.0,) * 3, (1.0,) * 3),
    )
    x = torch.randn((3, side, side))
    wanted = [Target("probability", str(number)) for number in range(targets)]
    nodes = network.nodes(wanted, {"x": list(range(targets))})
    folded = method.prepared(nodes)
    plain = seconds(lambda: method.maps(nodes, x, "x", wanted, 0))
    best = seconds(lambda: method.maps(folded, x, "x", wanted, 0))
    steps = method.recipe.steps
    passes = steps[0] + 2 * targets * steps[1]
    with torch.inference_mode():
        forward = seconds(lambda: [nodes(x[None], "x") for _ in range(10)]) / 10
    print(
        f"{name}, {targets} targets: {best:.1f} s per image, {plain:.1f} s unfolded, "
        f"{best / (passes * forward):.2f} times {passes} forward passes"
    )


def share_that_differ(store: Path) -> None:
    """Print the share of items whose masks of the first two targets differ."""
    group = open_relevance(store)
    maps = np.asarray(array(group, "relevance")[:])
    correlations = np.array([np.corrcoef(one[0].flat, one[1].flat)[0, 1] for one in maps])
    raised = np.asarray(array(group, "kept")[:]) > np.asarray(array(group, "removed")[:])
    stuck = np.asarray(array(group, "stuck")[:]).astype(bool)
    print(
        f"{store.stem}: masks of two classes differ for {(correlations < 0.9).mean():.3f} of "
        f"{len(correlations)} items (median correlation {np.median(correlations):.2f}); "
        f"{raised.mean():.3f} of the masks raise their target, {stuck.mean():.3f} were stuck"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path, nargs="+", default=[])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    use_cores(arguments.threads)
    for store in arguments.store:
        share_that_differ(store)
    if arguments.store:
        return
    settings = {"method": "feature-inversion", "classifier": "network"}
    if arguments.quick:
        settings["steps"] = (1, 1)
    method = FeatureInversion.model_validate(settings)
    for targets in arguments.targets:
        measure(arguments.network, targets, 64 if arguments.quick else 224, method)


if __name__ == "__main__":
    main()
