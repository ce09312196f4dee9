"""How long something takes on a device."""

from collections.abc import Callable

import torch
from torch.utils.benchmark import Timer


def seconds_of(run: Callable[[], object], quick: bool) -> float:
    """Median of the seconds that a call takes, until the device has done it."""
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=0.01 if quick else 0.3).median
