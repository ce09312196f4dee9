"""Speed: time of an image at the paper's settings, beside what its arithmetic needs at least."""

import resource

import numpy as np
import torch

from preddiff.classifiers.precision import Precision, arithmetic
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.samplers.conditional import Conditional
from preddiff.windows import Box, Windows
from tests.benchmarks.passes import cost, engine, make, smooth_images
from tests.gpu.memory import free_cached
from tests.gpu.run import Run
from tests.gpu.subjects import NumPyGaussian
from tests.gpu.timer import seconds_of

_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
# Windows of a block: on a GPU, those of a study. Evaluated are so many blocks.
BLOCK = {"cuda": 1024, "cpu": 32}
BLOCKS_TIMED = {Dense: 1, Incremental: 3}


def measure_peaks(run: Run) -> None:
    """Speed of matrix products"""
    side = 512 if run.is_quick else 8192 if run.on_gpu else 2048
    for precision in ("float32", "tf32", "bfloat16"):
        if precision == "tf32" and not run.on_gpu:
            continue
        known = precision in run.peaks
        if not known:
            run.peaks[precision] = _peak(run, precision, side)
        how = "given" if known else f"{side} x {side} x {side}"
        run.say(f"{precision:10} {run.peaks[precision]:8.2f} TFLOP/s ({how})")


def _peak(run: Run, precision: Precision, side: int) -> float:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn((side, side), device=run.device).to(dtype) for _ in range(2))
    with arithmetic(run.device, "tf32" if precision == "tf32" else "float32"):
        seconds = seconds_of(lambda: one @ other, run.is_quick)
    return 2 * side**3 / seconds / 1e12


def part(run: Run) -> None:
    """Time of an image at stride 1, extrapolated from a few blocks"""
    sizes = run.sizes
    if not run.peaks.keys() >= set(_PRECISIONS):
        measure_peaks(run)
    images = smooth_images(20, sizes.side)
    gaussian = NumPyGaussian.fit(images, sizes.l, patches=sizes.patches)
    sampler = Conditional(gaussian, (0.0, 1.0))
    run.say(f"side {sizes.side}, k = {sizes.k}, l = {sizes.l}, S = {sizes.samples}")
    run.say(
        f"{'network':14} {'engine':12} {'precision':10} {'ms a pass':>10} {'image':>10} "
        f"{'ratio':>7} {'of floor':>9} {'memory':>9}"
    )
    for name in run.networks:
        network = make(name, sizes.side)
        first = None
        for precision in _PRECISIONS:
            for kind in (Dense, Incremental):
                what = f"{name:14} {kind.__name__.lower():12} {precision:10}"
                if not run.has_time(what):
                    continue
                one = engine(kind, network, sampler, run.device, sizes, precision)
                line, each = _row(run, one, images[:1], precision, first)
                first = first or each
                run.say(f"{what} {line}")
                del one
        del network
    memory = "of the GPU" if run.on_gpu else "of this process so far"
    run.say(f"ratio: to the first row of the network; memory: the peak {memory};")
    run.say("of floor: time that the arithmetic takes at the speed of a matrix product, as a share")


def _row(
    run: Run, one: Dense, x: np.ndarray, precision: str, first: float | None
) -> tuple[str, float]:
    """Columns for an engine, and its seconds per pass."""
    if run.on_gpu:
        free_cached()
        torch.cuda.reset_peak_memory_stats(run.device)
    each, flops = cost(one, x, spread(one.windows, BLOCK[run.device.type], BLOCKS_TIMED[type(one)]))
    passes = np.prod(one.windows.shape) * one.samples
    floor = flops / (run.peaks[precision] * 1e12)
    return (
        f"{each * 1e3:10.4f} {each * passes:8.1f} s {(first or each) / each:7.2f} "
        f"{floor / each:9.1%} {peak_memory(run) / 1e9:6.2f} GB",
        each,
    )


def spread(windows: Windows, size: int, count: int) -> list[Box]:
    """Blocks of a study, spread over an image; a single one lies in the middle."""
    blocks = list(windows.blocks(size))
    places = np.linspace(0, len(blocks) - 1, count + 2)[1:-1].round().astype(int)
    return [blocks[place] for place in np.unique(places)]


def peak_memory(run: Run) -> int:
    """Bytes of the GPU at most since the peak was reset, or of this process at most so far."""
    if run.on_gpu:
        return torch.cuda.max_memory_allocated(run.device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
