"""Maps at a chosen accuracy: what they cost, and whether their errors are what they say.

    python tests/benchmarks/accuracy.py --images FOLDER --training FOLDER
        --network mobilenet_v2 WEIGHTS [--count 10] [--accuracies 0.05 0.02] [--side 32]
        [--precision bfloat16]

For each photograph and accuracy: forward passes as a share of the paper's (S = 10, stride 1), and
in bfloat16 the share of them that are in float32; seconds, seconds until the first map, and how
many times longer the paper's settings would take in float32 with the same engine, extrapolated from
a region. In that region, of `--side` windows squared around the map's largest magnitude, a
reference is made of `--samples` draws per window at stride 1, in float32: the error of the map as a
share of its largest magnitude, beside what `error` says there, and their ratio; the share of voxels
within twice what `error` says; the correlation. Voxels of which all windows are in the region are
compared. The last lines are means over photographs. `--quick` shows within seconds that the script
runs, with random images and weights; its numbers mean nothing.

Photographs are resized to 256 pixels on the shorter side and cropped to 224. Networks are
torchvision's, with a state dict as weights; the probability of the likeliest class is explained.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models

from preddiff.classifiers.network import Network
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import Precision
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.devices import device_of, use_cores
from preddiff.drawn import Drawn
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.refined import levels
from preddiff.evidence import Evidence, relevance
from preddiff.refinement import Estimate, Refinement
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Box, Windows

TARGET = Target.parse("probability:top-1")
STANDARD = {
    "mobilenet_v2": Standardisation((0.5,) * 3, (0.5,) * 3),
    "squeezenet1_1": Standardisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
TRAINING_SIZE, CLASSES = 1_281_167, 1000


@dataclass(frozen=True)
class Sizes:
    side: int
    k: int
    l: int
    patches: int


FULL, QUICK = Sizes(224, 10, 14, 20_000), Sizes(64, 4, 6, 2_000)


def photographs(folder: Path, side: int, count: int | None = None) -> np.ndarray:
    """Photographs (n, 3, side, side) in [0, 1], in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    found = []
    for path in paths[:count]:
        image = Image.open(path).convert("RGB")
        scale = 256 / 224 * side / min(image.size)
        image = image.resize([max(side, round(n * scale)) for n in image.size])
        left, top = ((n - side) // 2 for n in image.size)
        image = image.crop((left, top, left + side, top + side))
        found.append(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
    return np.stack(found)


def network(name: str, weights: Path | None, side: int) -> Network:
    torch.manual_seed(0)
    module = models.get_model(name, weights=None).eval()
    if weights is not None:
        module.load_state_dict(torch.load(weights, weights_only=True))
    classes = tuple(map(str, range(CLASSES)))
    standard = STANDARD.get(name, STANDARD["squeezenet1_1"])
    return Network(module, {"torchvision": name}, classes, TRAINING_SIZE, (side, side), standard)


def engine(
    one: Network,
    x: np.ndarray,
    sampler: Conditional,
    windows: Windows,
    samples: int,
    seed: int,
    precision: Precision = "float32",
) -> Incremental:
    device = device_of("auto")
    with torch.inference_mode():
        image = one.standardisation.image(torch.from_numpy(x)[None])
        likeliest = int(one.module.cpu()(image).argmax())
    nodes = NetworkNodes(one, Readout((TARGET,)), {"item": [likeliest]}, device, precision)
    return Incremental(
        nodes,
        sampler,
        windows,
        samples,
        seed,
        standardisation=one.standardisation,
        device=device,
    )


@dataclass(frozen=True)
class Reference:
    """A region of windows, the voxels whose windows all lie in it, and their relevance."""

    box: Box
    voxels: tuple[slice, ...]
    relevance: np.ndarray
    seconds_per_pass: float


def reference(one: Incremental, x: np.ndarray, middle: tuple[int, ...], side: int) -> Reference:
    """Explain a region of windows around a voxel by many draws at stride 1."""
    windows, k = one.windows, one.windows.k
    starts = [
        int(np.clip(m - k // 2 - side // 2, 0, n - side))
        for m, n in zip(middle, windows.shape, strict=True)
    ]
    box = Box(0, tuple(slice(s, s + side) for s in starts))
    first = Box(0, tuple(slice(s, s + 2) for s in starts))
    one.expectations(x[None], ["item"], first)
    start = time.perf_counter()
    found = one.expectations(x[None], ["item"], box)
    seconds = (time.perf_counter() - start) / (box.size * one.samples)
    evidence, _ = Evidence(one.samples, TRAINING_SIZE, CLASSES).of_draws(
        TARGET,
        float(found.reference[0, 0]),
        found.change[0, 0],
        found.variance[0, 0],
        one.samples,
    )
    # Windows of the region as an input of their own: its inner voxels have all their windows.
    inner = tuple(slice(k - 1, side) for _ in middle)
    maps = relevance(evidence, Windows((side + k - 1,) * 2, k))[inner]
    voxels = tuple(slice(s + k - 1, s + side) for s in starts)
    return Reference(box, voxels, maps, seconds)


def refine(
    one: Incremental,
    x: np.ndarray,
    accuracies: list[float],
    in_float32: Incremental | None = None,
) -> tuple[float, dict[float, tuple[float, Drawn, Estimate]]]:
    """Seconds until the first map; by accuracy, seconds and maps."""
    evidence = Evidence(2, TRAINING_SIZE, CLASSES)
    in_two = in_float32 is not None
    refinement = Refinement(one.windows, [TARGET], evidence, in_two_precisions=in_two)
    found: dict[float, tuple[float, Drawn, Estimate]] = {}
    first, start = 0.0, time.perf_counter()
    for level in levels(one, refinement, x, "item", in_float32=in_float32):
        drawn, estimate = level.drawn, level.estimate
        seconds = time.perf_counter() - start
        first = first or seconds
        for accuracy in accuracies:
            reached = refinement.is_reached(drawn.passes, estimate.reached, accuracy)
            if reached and accuracy not in found:
                found[accuracy] = seconds, drawn, estimate
        if len(found) == len(accuracies):
            break
    return first, found


def add_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """Options for the photographs, the network and the reference."""
    parser.add_argument("--images", type=Path)
    parser.add_argument("--training", type=Path, help="photographs that patches are fitted on")
    parser.add_argument("--network", nargs=2, metavar=("NAME", "WEIGHTS"))
    parser.add_argument(
        "--count", type=int, default=count, help="photographs (default: %(default)s)"
    )
    parser.add_argument("--accuracies", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--side", type=int, default=32, help="windows of the reference region")
    parser.add_argument("--samples", type=int, default=24, help="draws of the reference")
    parser.add_argument("--threads", type=int, help="cores (default: all)")
    parser.add_argument("--quick", action="store_true")


@dataclass(frozen=True)
class Subject:
    """Photographs, and what explains them."""

    name: str
    images: np.ndarray
    network: Network
    sampler: Conditional
    windows: Windows


def subject(arguments: argparse.Namespace) -> Subject:
    """Load what the options name; with `--quick`, random images and weights, and a tiny region."""
    use_cores(arguments.threads)
    sizes = QUICK if arguments.quick else FULL
    if arguments.quick:
        random = np.random.default_rng(0)
        training = random.random((20, 3, sizes.side, sizes.side), dtype=np.float32)
        images, name, weights = training[:1], "squeezenet1_1", None
        arguments.side, arguments.samples = 8, 2
    else:
        training = photographs(arguments.training, sizes.side)
        images = photographs(arguments.images, sizes.side, arguments.count)
        name, weights = arguments.network[0], Path(arguments.network[1])
    gaussian = PatchGaussian.fit(training, l=sizes.l, patches=sizes.patches)
    one = network(name, weights, sizes.side)
    windows = Windows((sizes.side,) * 2, sizes.k)
    return Subject(name, images, one, Conditional(gaussian, (0.0, 1.0)), windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, count=10)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.accuracies = [0.5]
    given = subject(arguments)
    images, one, sampler, windows = given.images, given.network, given.sampler, given.windows
    paper = 10 * windows.everything.size

    print(f"{given.name}, {len(images)} photographs, {torch.get_num_threads()} threads")
    print(
        "photograph accuracy | passes 1/ float32 | seconds first speed-up | "
        "error said ratio within corr"
    )
    rows: dict[float, list[list[float]]] = {accuracy: [] for accuracy in arguments.accuracies}
    for number, x in enumerate(images):
        ours = one, x, sampler, windows, 2, 0
        in_float32 = None if arguments.precision == "float32" else engine(*ours)
        reduced = engine(*ours, arguments.precision)
        first, found = refine(reduced, x, arguments.accuracies, in_float32)
        best = found[min(arguments.accuracies)][2]
        middle = np.unravel_index(np.abs(best.relevance[0]).argmax(), windows.space)
        exact = engine(one, x, sampler, windows, arguments.samples, 1)
        truth = reference(exact, x, tuple(map(int, middle)), arguments.side)
        for accuracy, (seconds, drawn, estimate) in found.items():
            largest = np.abs(estimate.relevance[0]).max()
            maps = estimate.relevance[0][truth.voxels]
            said = estimate.error[0][truth.voxels]
            error = maps - truth.relevance
            rms = np.sqrt((error**2).mean()) / largest
            told = np.sqrt((said**2).mean()) / largest
            row = [
                paper / drawn.passes,
                0 if drawn.shift is None else drawn.shift.passes / drawn.passes,
                seconds,
                first,
                paper * truth.seconds_per_pass / seconds,
                rms,
                told,
                rms / told,
                float((np.abs(error) <= 2 * said).mean()),
                float(np.corrcoef(maps.ravel(), truth.relevance.ravel())[0, 1]),
            ]
            rows[accuracy].append(row)
            print(f"{number:10d} {accuracy:8g} | {line(row)}", flush=True)
    for accuracy, several in rows.items():
        print(f"      mean {accuracy:8g} | {line(list(np.mean(several, axis=0)))}")


def line(row: list[float]) -> str:
    share, in_float32, seconds, first, faster, rms, told, ratio, within, correlation = row
    return (
        f"{share:9.0f} {in_float32:7.3f} | {seconds:7.1f} {first:5.1f} {faster:8.0f} | "
        f"{rms:5.3f} {told:4.3f} {ratio:5.2f} {within:6.2f} {correlation:5.3f}"
    )


if __name__ == "__main__":
    main()
