"""Time of an image at accuracy 0.02: forward passes of levels as large as those of photographs."""

import time

import numpy as np
import torch

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


def part(run: Run) -> None:
    """Time of an image at accuracy 0.02, without the choice of windows"""
    sizes = run.sizes
    images = smooth_images(20, sizes.side)
    gaussian = NumPyGaussian.fit(images, sizes.l, patches=sizes.patches)
    sampler = Conditional(gaussian, (0.0, 1.0))
    run.say(f"{'network':14} {'levels':>7} {'passes':>9} {'first map':>10} {'image':>10} ms a pass")
    for name in run.networks:
        if not run.has_time(name):
            continue
        network = make(name, sizes.side)
        one = engine(Incremental, network, sampler, run.device, sizes)
        levels = levels_of_usual_sizes(one.windows)
        # Once before, for what is prepared for all items.
        for chosen in (*spread(one.windows, 64, 1), *levels):
            one.expectations(images[:1], ["item"], chosen, samples=_DRAWS)
        seconds = [_seconds(one, images[1:2], chosen) for chosen in levels]
        passes = _DRAWS * sum(chosen.size for chosen in levels)
        run.say(
            f"{name:14} {len(levels):7} {passes:9,} {seconds[0]:8.3f} s {sum(seconds):8.2f} s "
            f"{1e3 * sum(seconds) / passes:9.4f}"
        )


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
