"""Time of an image at accuracy 0.02: forward passes of levels as large as those of photographs.

In bfloat16, a share of the draws is made in float32 too. What the two differ by, over the same
draws, is printed as a share of the changes. It differs between random and trained weights, for
which `tests/benchmarks/accuracy.py --precision bfloat16` tells passes and error.
"""

import time

import numpy as np
import torch

from preddiff.classifiers.precision import Precision
from preddiff.engines.incremental.engine import Incremental
from preddiff.samplers.conditional import Conditional
from preddiff.windows import Selection, Windows
from tests.benchmarks.passes import engine, make, smooth_images
from tests.gpu.run import Run
from tests.gpu.speed import spread
from tests.gpu.subjects import NumPyGaussian

# Forward passes of an image at stride 1 with ten draws, and about how many an accuracy of 0.02
# takes, on average over photographs (`tests/benchmarks/accuracy.py`).
_SHARE = 40
# Shares of the windows that the first two levels draw, and growth of the passes with each further
# level: those of `preddiff.refinement`, which needs SciPy.
_FIRST, _SECOND, _GROWTH, _DRAWS = 1 / 256, 1 / 25, 1.35, 2
# Share of the draws that are made in float32 too, in bfloat16: measured on photographs, 0.07
# with SqueezeNet 1.1 and 0.13 with MobileNetV2, which takes about twice as many passes then.
_IN_BOTH = 1 / 10


def part(run: Run) -> None:
    """Time of an image at accuracy 0.02, without the choice of windows"""
    sizes = run.sizes
    images = smooth_images(20, sizes.side)
    gaussian = NumPyGaussian.fit(images, sizes.l, patches=sizes.patches)
    sampler = Conditional(gaussian, (0.0, 1.0))
    run.say(
        f"{'network':14} {'precision':10} {'levels':>7} {'passes':>9} {'first map':>10} "
        f"{'image':>10} {'ms a pass':>9} {'shift':>7}"
    )
    for name in run.networks:
        if not run.has_time(name):
            continue
        network = make(name, sizes.side)
        in_float32 = engine(Incremental, network, sampler, run.device, sizes)
        precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
        for precision in precisions:
            if precision == "tf32" and not run.on_gpu:
                continue
            if not run.has_time(f"{name} {precision}"):
                break
            one = in_float32
            if precision != "float32":
                one = engine(Incremental, network, sampler, run.device, sizes, precision)
            exact = in_float32 if precision == "bfloat16" else None
            run.say(f"{name:14} {precision:10} {_row(one, exact, images)}")


def _row(one: Incremental, in_float32: Incremental | None, images: np.ndarray) -> str:
    """Time an image; if `in_float32` is given, with a share of the draws in float32 too."""
    levels = levels_of_usual_sizes(one.windows)
    both = [_in_both(chosen) if in_float32 else None for chosen in levels]
    # Once before, for what is prepared for all items.
    for chosen in (*spread(one.windows, 64, 1), *levels):
        one.expectations(images[:1], ["item"], chosen, samples=_DRAWS)
    seconds, passes, shifts = [], 0, []
    for chosen, again in zip(levels, both, strict=True):
        seconds.append(_seconds(one, images[1:2], chosen))
        passes += _DRAWS * chosen.size
        if in_float32 is not None and again is not None:
            in_float32.expectations(images[:1], ["item"], again, samples=_DRAWS)
            seconds[-1] += _seconds(in_float32, images[1:2], again)
            passes += _DRAWS * again.size
            shifts.append(_shift(one, in_float32, images[1:2], again))
    shift = f"{np.mean(shifts):7.1e}" if shifts else ""
    return (
        f"{len(levels):7} {passes:9,} {seconds[0]:8.3f} s {sum(seconds):8.2f} s "
        f"{1e3 * sum(seconds) / passes:9.4f} {shift}"
    ).rstrip()


def _in_both(chosen: Selection) -> Selection:
    """Windows of a level that are drawn in float32 too."""
    return Selection(chosen.number, chosen.index[:: round(1 / _IN_BOTH)])


def _shift(one: Incremental, other: Incremental, x: np.ndarray, chosen: Selection) -> float:
    """Root mean square difference of two precisions, over that of the changes; first target."""
    ours, exact = (
        engine.expectations(x, ["item"], chosen, samples=_DRAWS).change[0, 0]
        for engine in (one, other)
    )
    return float(np.sqrt(np.square(ours - exact).mean() / np.square(exact).mean()))


def levels_of_usual_sizes(windows: Windows) -> list[Selection]:
    """Windows of each level, chosen at random."""
    source = np.random.default_rng(0)
    every = windows.everything.size
    passes = [_DRAWS * max(1, round(share * every)) for share in (_FIRST, _SECOND)]
    while passes[-1] < 10 * every / _SHARE:
        passes.append(round(_GROWTH * passes[-1]))
    found = []
    for number, count in enumerate(np.diff(passes, prepend=0) // _DRAWS):
        chosen = np.sort(source.choice(every, max(1, int(count)), replace=False))
        index = np.stack(np.unravel_index(chosen, windows.shape), axis=1)
        found.append(Selection(number, index))
    return found


def _seconds(one: Incremental, x: np.ndarray, chosen: Selection) -> float:
    start = time.perf_counter()
    one.expectations(x, ["item"], chosen, samples=_DRAWS)
    if one.device.type == "cuda":
        torch.cuda.synchronize(one.device)
    return time.perf_counter() - start
