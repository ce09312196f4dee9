"""Error against forward passes: the paper's settings, larger strides, fewer draws, an accuracy.

    python tests/benchmarks/settings.py --images FOLDER --training FOLDER
        --network mobilenet_v2 WEIGHTS [--count 4] [--figure FILE.png]

For the same photographs, and the same region of `--side` windows squared around the largest
magnitude of each map, the error against `--samples` draws of all windows is printed, as a share of
the map's largest magnitude, beside the forward passes for the whole photograph. Rows: S draws of
the windows at some stride, averaged as they are (the paper's Algorithm 1), and maps at a chosen
accuracy. Errors are root mean squares over photographs, and passes are means. With `--figure`, they
are drawn. `--quick` shows within seconds that the script runs; its numbers mean nothing.

Photographs, networks and regions are those of `accuracy.py`.
"""

import argparse
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from preddiff.engines.incremental.engine import Incremental
from preddiff.evidence import weight_of_evidence
from preddiff.windows import Windows
from tests.benchmarks.accuracy import (
    CLASSES,
    TRAINING_SIZE,
    Reference,
    add_arguments,
    engine,
    reference,
    refine,
    subject,
)

PAPER = 10
DRAWS, STRIDES = (2, 5, PAPER), (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Setting:
    """A row of the table: a family of settings, which one it is, and what was found."""

    family: str
    label: str
    passes: float
    error: float


def averaged(evidence: np.ndarray, starts: list[int], windows: Windows, stride: int) -> np.ndarray:
    """Relevance of a region's inner voxels, from those of its windows that are on a grid."""
    k, (side, _) = windows.k, evidence.shape
    on_grid = [(np.arange(side) + start) % stride == 0 for start in starts]
    kept = on_grid[0][:, None] & on_grid[1][None]
    region = Windows((side + k - 1,) * 2, k)
    inner = (slice(k - 1, side),) * 2
    total = region.sum_over_windows(np.where(kept, evidence, 0.0))[inner]
    return total / region.sum_over_windows(kept.astype(float))[inner]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def of_draws(
    one: Incremental, x: np.ndarray, truth: Reference, largest: float, side: int, samples: int
) -> list[Setting]:
    """Errors of the paper's algorithm with S draws, at several strides."""
    windows = one.windows
    starts = [voxels.stop - side for voxels in truth.voxels]
    found = one.expectations(x[None], ["item"], truth.box)
    evidence = weight_of_evidence(found.reference[0, 0], found.change[0, 0], TRAINING_SIZE, CLASSES)
    rows = []
    strides = STRIDES if samples == PAPER else STRIDES[:1]
    for stride in (stride for stride in strides if stride <= windows.k):
        maps = averaged(evidence, starts, windows, stride)
        count = np.prod([ceil((n - windows.k) / stride + 1) for n in windows.space])
        family = "strides, S = 10" if samples == PAPER and stride > 1 else "draws, stride 1"
        label = f"S = {samples}, stride {stride}"
        rows.append(Setting(family, label, samples * count, rms(maps - truth.relevance) / largest))
    return rows


def draw(rows: list[Setting], file: Path, title: str) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    markers = {"draws, stride 1": "o", "strides, S = 10": "s", "accuracy": "D"}
    for family, marker in markers.items():
        own = sorted((one.passes, one.error) for one in rows if one.family == family)
        axes.loglog(*np.array(own).T, marker=marker, label=family)
    for one in rows:
        axes.annotate(
            one.label.removesuffix(", stride 1"),
            (one.passes, one.error),
            (4, 4),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(
        title=title, xlabel="forward passes of a photograph", ylabel="error / largest magnitude"
    )
    axes.grid(which="both", alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, count=4)
    parser.add_argument("--figure", type=Path, help="draw the table")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.accuracies = [0.5, 0.4]
    given = subject(arguments)
    images, one, sampler, windows = given.images, given.network, given.sampler, given.windows

    by_image: list[list[Setting]] = []
    for number, x in enumerate(images):
        _, found = refine(engine(one, x, sampler, windows, 2, 0), x, arguments.accuracies)
        best = found[min(arguments.accuracies)][2].relevance[0]
        largest = float(np.abs(best).max())
        middle = tuple(map(int, np.unravel_index(np.abs(best).argmax(), windows.space)))
        exact = engine(one, x, sampler, windows, arguments.samples, 1)
        truth = reference(exact, x, middle, arguments.side)
        rows = []
        for samples in DRAWS:
            drawing = engine(one, x, sampler, windows, samples, 1 + samples)
            rows += of_draws(drawing, x, truth, largest, arguments.side, samples)
        for accuracy, (_, drawn, estimate) in found.items():
            error = rms(estimate.relevance[0][truth.voxels] - truth.relevance) / largest
            rows.append(Setting("accuracy", f"accuracy {accuracy:g}", drawn.passes, error))
        by_image.append(rows)
        print(f"photograph {number}: {', '.join(f'{row.error:.3f}' for row in rows)}", flush=True)

    means = [
        Setting(
            same[0].family,
            same[0].label,
            float(np.mean([row.passes for row in same])),
            rms(np.array([row.error for row in same])),
        )
        for same in zip(*by_image, strict=True)
    ]
    paper = next(row for row in means if row.label == f"S = {PAPER}, stride 1")
    print(f"\n{given.name}, {len(images)} photographs\nsetting | passes | of the paper's | error")
    for row in means:
        share = f"1/{paper.passes / row.passes:.3g}"
        print(f"{row.label:18} | {row.passes:9,.0f} | {share:>7} | {row.error:.3f}")
    if arguments.figure is not None:
        draw(means, arguments.figure, f"{given.name}, {len(images)} photographs")


if __name__ == "__main__":
    main()
