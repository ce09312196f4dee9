"""Reading boxes: torch's gather and the Triton kernel against plain slicing, and their times."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from preddiff.engines.incremental import boxes as module
from preddiff.engines.incremental.boxes import Boxes, Changed, Intact
from tests.gpu.run import Run
from tests.gpu.timer import seconds_of


@dataclass(frozen=True)
class Case:
    """Boxes of side `box` in maps, and regions around them that are read."""

    channels: int
    space: tuple[int, ...]
    box: int
    region: int
    windows: int
    draws: int

    def __str__(self) -> str:
        space = " x ".join(map(str, self.space))
        return f"{self.channels} x {space}, {self.windows * self.draws} x {self.box}"

    def make(self, dtype: torch.dtype, device: torch.device) -> tuple[Changed, Boxes]:
        """Activations with changed boxes at random places, and the regions that are read."""
        source = torch.Generator().manual_seed(0)
        dimensions = len(self.space)
        size = (self.box,) * dimensions
        limits = np.array(self.space) - self.box
        places = torch.rand((self.windows, dimensions), generator=source, dtype=torch.float64)
        starts = (places.numpy() * (limits + 1)).astype(np.int64)
        maps = torch.randn((1, self.channels, *self.space), generator=source)
        values = torch.randn((self.windows * self.draws, self.channels, *size), generator=source)
        changed = Changed(
            Intact(maps.to(device, dtype)), values.to(device, dtype), Boxes(starts, size)
        )
        margin = (self.region - self.box) // 2
        return changed, Boxes(starts - margin, (self.region,) * dimensions)


# Few channels and many, more than a program of the kernel copies, and regions beyond the border.
EXACT = (
    Case(1, (9, 12), 3, 7, 6, 2),
    Case(3, (9, 12), 1, 5, 6, 3),
    Case(200, (7, 7), 2, 4, 5, 2),
    Case(5, (6, 7, 8), 2, 6, 4, 2),
)
# As layers of AlexNet, VGG16 and a network of volumes have them.
TIMED = (
    Case(64, (55, 55), 4, 8, 410, 10),
    Case(64, (224, 224), 12, 14, 50, 10),
    Case(512, (28, 28), 6, 8, 100, 10),
    Case(32, (45, 54, 45), 6, 8, 50, 10),
)
QUICK = (Case(8, (12, 12), 3, 5, 10, 2),)


@contextmanager
def reading_by(kernel: bool) -> Iterator[None]:
    """Let regions be read by the kernel, or by torch."""
    with patch.object(module, "_has_kernel", lambda device: kernel):
        yield


def part(run: Run) -> None:
    """Reading boxes: torch's gather and the Triton kernel"""
    kernel = run.on_gpu and module._has_kernel(run.device)
    if run.on_gpu:
        run.say(run.check("the Triton kernel can be used", kernel) + ": Triton can be used")
    else:
        run.say("the Triton kernel is skipped: it needs a GPU")
    ways = (False, True) if kernel else (False,)
    for case in EXACT:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            changed, regions = case.make(dtype, run.device)
            wanted = sliced(changed, regions)
            for way in ways:
                with reading_by(way):
                    same = changed.read(regions).equal(wanted)
                what = f"{'kernel' if way else 'torch'} reads {case} in {str(dtype)[6:]}"
                if run.check(what, same) != "ok":
                    run.say(f"FAILED: {what}")
    run.say(f"{len(EXACT)} cases in three types, bit for bit")
    run.say(f"{'maps, boxes':34} {'type':10} {'torch':>10} {'kernel':>10} {'ratio':>7} {'GB/s':>7}")
    for case in QUICK if run.is_quick else TIMED:
        for dtype in (torch.float32, torch.bfloat16):
            if run.has_time(str(case)):
                _time(run, case, dtype, ways)


def sliced(changed: Changed, regions: Boxes) -> Tensor:
    """The regions, cut out of whole maps that are padded with zeros."""
    dimensions = len(regions.size)
    margin = max(regions.size)
    found = []
    for number, value in enumerate(changed.values):
        row = number // changed.draws
        whole = changed.intact.maps[0].clone()
        whole[(..., *_slices(changed.boxes.starts[row], changed.boxes.size))] = value
        padded = F.pad(whole, (margin,) * 2 * dimensions)
        found.append(padded[(..., *_slices(regions.starts[row] + margin, regions.size))])
    return torch.stack(found)


def _slices(start: np.ndarray, size: tuple[int, ...]) -> list[slice]:
    return [slice(int(a), int(a) + n) for a, n in zip(start, size, strict=True)]


def _time(run: Run, case: Case, dtype: torch.dtype, ways: tuple[bool, ...]) -> None:
    changed, regions = case.make(dtype, run.device)
    times = []
    for way in ways:
        with reading_by(way):
            times.append(seconds_of(lambda: changed.read(regions), run.is_quick))
    columns = [f"{each * 1e6:8.0f} us" for each in times]
    if len(times) == 2:
        found = changed.read(regions)
        # The region is read and written once; most of it lies in the intact maps.
        speed = 2 * found.numel() * found.element_size() / times[1] / 1e9
        columns += [f"{times[0] / times[1]:7.1f}", f"{speed:7.0f}"]
    run.say(f"{case!s:34} {str(dtype)[6:]:10} {' '.join(columns)}")
