"""Where the time goes: the kernels and operators that take the most of a block's time."""

import time
from collections.abc import Callable
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from preddiff.engines.incremental.engine import Incremental
from preddiff.samplers.conditional import Conditional
from tests.benchmarks.passes import engine, make, smooth_images
from tests.gpu.run import Run
from tests.gpu.speed import BLOCK, spread
from tests.gpu.subjects import NumPyGaussian

ROWS = 10


def part(run: Run) -> None:
    """Where the time goes in a block of the incremental engine, in float32"""
    sizes = run.sizes
    images = smooth_images(20, sizes.side)
    gaussian = NumPyGaussian.fit(images, sizes.l, patches=sizes.patches)
    network = make(run.networks[0], sizes.side)
    one = engine(Incremental, network, Conditional(gaussian, (0.0, 1.0)), run.device, sizes)
    (block,) = spread(one.windows, BLOCK[run.device.type], 1)
    one.expectations(images[:1], ["item"], block)
    start = time.perf_counter()
    one.expectations(images[:1], ["item"], block)
    wall = time.perf_counter() - start
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if run.on_gpu else [])]
    with profile(activities=activities) as found:
        one.expectations(images[:1], ["item"], block)
    events = found.key_averages()
    run.say(f"{run.networks[0]}, {block.size} windows: {wall * 1e3:.1f} ms without the profiler")
    if run.on_gpu:
        kernels = [e for e in events if e.device_type == DeviceType.CUDA]
        busy = sum(e.self_device_time_total for e in kernels) / 1e6
        run.say(f"the GPU computes for {busy * 1e3:.1f} ms of these ({busy / wall:.0%})")
        _table(run, "kernel", kernels, lambda e: e.self_device_time_total)
    host = [e for e in events if e.device_type == DeviceType.CPU]
    _table(run, "operator on the host", host, lambda e: e.self_cpu_time_total)


def _table(run: Run, title: str, events: list[Any], of: Callable[[Any], float]) -> None:
    total = sum(map(of, events))
    run.say(f"{title:56} {'calls':>7} {'ms':>9} {'share':>7}")
    for event in sorted(events, key=of, reverse=True)[:ROWS]:
        name = event.key if len(event.key) <= 56 else f"{event.key[:53]}..."
        run.say(f"{name:56} {event.count:7} {of(event) / 1e3:9.2f} {of(event) / total:7.1%}")
