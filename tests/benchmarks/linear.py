"""Speed and accuracy of the linear engine, on a study's own data: prints one table.

Run the embedded default first, then, from the project's folder:

    python tests/benchmarks/linear.py results/phantom

The options make it smaller: fewer volumes, windows of Algorithm 1 or draws.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.engines.linear import Exact, Samples
from preddiff.evidence import relevance, weight_of_evidence
from preddiff.methods.prediction_difference import ExpectationSettings, WindowSettings
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.conditional_settings import ConditionalSettings
from preddiff.samplers.draws import generator
from preddiff.samplers.gaussian import LocatedPatchGaussian
from preddiff.samplers.gaussian_store import load_gaussian
from preddiff.stages.explain import explain
from preddiff.stages.open import open_expectations
from preddiff.stages.relevance import compute_relevance
from preddiff.storage.inputs import Inputs
from preddiff.targets import Target
from preddiff.windows import Windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of a study like the embedded default")
    parser.add_argument("--volumes", type=int, default=16, help="at least 2 volumes (default: 16)")
    parser.add_argument(
        "--items", type=int, default=140, help="volumes through the stages (default: 140)"
    )
    parser.add_argument(
        "--windows", type=int, default=300, help="windows of Algorithm 1 (default: 300)"
    )
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[10, 100, 1000], help="draws of the accuracy"
    )
    arguments = parser.parse_args()
    results = arguments.results
    items = Items(results / "data/cohort.zarr")
    classifier = LinearClassifier.load(results / "classifiers/logistic")
    windows = Windows(classifier.space, 3)
    targets = [Target("probability", classifier.classes[1])]
    names = items.names[: arguments.volumes]
    x = items.read(range(len(names)), classifier.slab)
    everywhere = load_gaussian(results / "gaussians/cohort-l7-conditional.zarr")
    located = load_gaussian(next((results / "gaussians").glob("cohort-l7-location*.zarr")))
    assert isinstance(located, LocatedPatchGaussian)
    located = located.at(classifier.corner)
    print(f"{windows.shape} windows, {len(names)} volumes of {classifier.space} voxels")

    for label, gaussian in (("global", everywhere), ("by location", located)):
        engine = Exact(classifier, Conditional(gaussian), windows, targets)
        with timed(f"exact, {label}: preparation"):
            engine.prepare(windows.everything)
        with timed(f"exact, {label}: per volume", len(names)) as exact_time:
            found = engine.expectations(x, names, windows.everything)
        if label == "global":
            exact, per_volume = found, exact_time

    sampled = Samples(classifier, Conditional(everywhere), windows, targets, 10, 0)
    sampled.expectations(x[:1], names[:1], windows.everything)
    with timed("samples, S = 10: per volume", 2) as samples_time:
        sampled.expectations(x[:2], names[:2], windows.everything)
    literal_time = literal(
        x[0], names[0], classifier, Conditional(everywhere), windows, arguments.windows
    )
    print(f"samples / exact: {samples_time[0] / per_volume[0]:.1f}")
    print(f"Algorithm 1 literally / exact: {literal_time / per_volume[0]:.0f}")
    accuracy(exact, x, names, classifier, everywhere, windows, targets, arguments.samples)
    end_to_end(results, arguments.items)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory of all of the above: {peak:.2f} GB")


@contextmanager
def timed(label: str, per: int = 1) -> Iterator[list[float]]:
    """Print the wall-clock time of the body, divided by `per`; it is also put into the list."""
    seconds: list[float] = []
    start = time.perf_counter()
    yield seconds
    seconds.append((time.perf_counter() - start) / per)
    print(f"{label}: {seconds[0]:.3f} s")


def literal(x, item, classifier, sampler, windows, count) -> float:
    """Algorithm 1 as it is written: a loop over windows and samples, a full product each."""
    blocks = list(windows.blocks(count))
    block = blocks[len(blocks) // 2]
    start = time.perf_counter()
    draws = sampler.draw(
        torch.from_numpy(x), item, windows, block, 10, generator(0, item, block)
    ).numpy()
    for first, samples in zip(windows.first_voxels(block), draws, strict=True):
        part = (slice(None), *(slice(f, f + windows.k) for f in first))
        for sample in samples:
            redrawn = x.copy()
            redrawn[part] = sample.reshape(redrawn[part].shape)
            expit((redrawn * classifier.weights).sum() + classifier.intercept)
    each = (time.perf_counter() - start) / block.size
    total = each * np.prod(windows.shape)
    print(f"Algorithm 1 literally, S = 10: {total:.0f} s per volume, from {block.size} windows")
    return float(total)


def accuracy(exact, x, names, classifier, gaussian, windows, targets, counts) -> None:
    """What S draws cost: error of the evidence and correlation of the maps, against exact."""
    size = len(classifier.classes)

    def evidence(found):
        n = classifier.training_size
        return weight_of_evidence(found.reference[0, 0], found.change[0, 0], n, size)

    truth = evidence(exact)
    for samples in counts:
        engine = Samples(classifier, Conditional(gaussian), windows, targets, samples, 0)
        parts = np.empty(windows.shape)
        for block in windows.blocks(4096):
            found = engine.expectations(x[:1], names[:1], block)
            parts[block.slices] = evidence(found)
        error = np.sqrt(np.mean((parts - truth) ** 2) / np.mean(truth**2))
        maps = relevance(parts, windows), relevance(truth, windows)
        alike = np.corrcoef(maps[0].reshape(-1), maps[1].reshape(-1))[0, 1]
        print(f"S = {samples}: rms error / rms evidence {error:.3f}, correlation {alike:.4f}")


def end_to_end(results: Path, items: int) -> None:
    """Reading, explaining, writing, relevance: volumes through the stages."""
    inputs = Inputs(
        data=results / "data/cohort.zarr",
        classifier=results / "classifiers/logistic",
        gaussian=results / "gaussians/cohort-l7-conditional.zarr",
    )
    settings = ExpectationSettings(
        sampler=ConditionalSettings(kind="conditional"), windows=WindowSettings(items=items)
    )
    with tempfile.TemporaryDirectory() as folder, timed(f"{items} volumes, reading and writing"):
        store = Path(folder) / "expectations.zarr"
        open_expectations(inputs, settings, 0, store)
        explain(store, 0, None, None)
        compute_relevance(store, Path(folder) / "relevance.zarr")


if __name__ == "__main__":
    main()
