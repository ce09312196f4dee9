"""Precision: float32, tf32 and bfloat16 against float64, beside the error of the draws."""

import gc
from dataclasses import dataclass

import numpy as np
import torch

from preddiff.classifiers.precision import Precision
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.evidence import Expectations
from preddiff.samplers.conditional import Conditional
from preddiff.windows import Box, Windows
from tests.benchmarks.passes import TARGETS, make, smooth_images
from tests.gpu import subjects
from tests.gpu.run import Run
from tests.gpu.subjects import NumPyGaussian, Subject

# Of float32 on small networks, as a share of the changes: what the incremental engine itself takes
# for rounding when it compares both ways.
TOLERANCE = 1e-3
# Inputs per pass in float64, whose activations take twice the memory.
_BATCH = 64


@dataclass(frozen=True)
class Errors:
    """Errors of the worst target.

    Attributes
    ----------
    relative : float
        Root mean square over the windows, as a share of that of the changes.
    window : float
        The same in standard errors of the mean over draws.
    mean : float
        Error of the mean over all windows, in its standard errors. If these are the windows that
        contain a pixel, it is that of the pixel's relevance.
    """

    relative: float
    window: float
    mean: float


def errors(found: Expectations, exact: Expectations, samples: int) -> Errors:
    """Compare two results of the same draws."""
    targets = len(exact.reference[0])
    ours, wanted, variance = (
        values[0].reshape(targets, -1) for values in (found.change, exact.change, exact.variance)
    )
    difference = ours - wanted
    stderr = np.sqrt(variance / samples)
    # Draws of different windows are independent.
    of_mean = np.sqrt((stderr**2).sum(1)) / stderr.shape[1]
    return Errors(
        float((rms(difference) / rms(wanted)).max()),
        float((rms(difference) / rms(stderr)).max()),
        float((np.abs(difference.mean(1)) / of_mean).max()),
    )


def rms(values: np.ndarray) -> np.ndarray:
    """Root mean square of the rows."""
    return np.sqrt((values**2).mean(1))


def part(run: Run) -> None:
    """Precision against float64: relative error, and errors in standard errors of the draws"""
    run.say(
        f"{'network':14} {'engine':12} {'precision':10} {'relative':>9} {'window':>9} {'mean':>9}"
    )
    for dimensions in (2, 3):
        _compare(run, f"small {dimensions}-D", subjects.small(dimensions), checked=True)
    for name in run.networks:
        if run.has_time(name):
            _compare(run, name, _photograph(run, name), checked=False)
            gc.collect()
    if not run.on_gpu:
        run.say("tf32 needs a GPU")


def _photograph(run: Run, name: str) -> Subject:
    """A network of torchvision, and all windows that contain a pixel in the middle of an image."""
    sizes = run.sizes
    network = make(name, sizes.side)
    images = smooth_images(20, sizes.side)
    gaussian = NumPyGaussian.fit(images, sizes.l, patches=sizes.patches)
    windows = Windows(network.space, sizes.k)
    first = (sizes.side - sizes.k) // 2
    block = Box(0, (slice(first, first + sizes.k),) * 2)
    sampler = Conditional(gaussian, (0.0, 1.0))
    return Subject(network, images[:1], sampler, windows, block, sizes.samples, TARGETS)


def _compare(run: Run, name: str, subject: Subject, checked: bool) -> None:
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
    rows = []
    for kind in (Dense, Incremental):
        for precision in precisions:
            if precision == "tf32" and not run.on_gpu:
                continue
            what = f"{name:14} {kind.__name__.lower():12} {precision:10}"
            if run.has_time(what):
                one = subject.engine(kind, run.device, precision)
                found = one.expectations(subject.x, ["item"], subject.block)
                rows.append((what, precision, found))
    if not rows or not run.has_time(f"{name} in float64"):
        return
    # Last, since it converts the network.
    double = subject.in_float64()
    exact = double.engine(Dense, run.device, batch_size=_BATCH).expectations(
        double.x, ["item"], double.block
    )
    for what, precision, found in rows:
        these = errors(found, exact, subject.samples)
        verdict = ""
        if checked and precision == "float32":
            verdict = "  " + run.check(" ".join(what.split()), these.relative <= TOLERANCE)
        run.say(f"{what} {these.relative:9.1e} {these.window:9.1e} {these.mean:9.1e}{verdict}")
    if run.on_gpu:
        torch.cuda.empty_cache()
