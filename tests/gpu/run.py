"""One run of the GPU test: what it was asked for, the time that is left, and what failed."""

import time
from dataclasses import dataclass, field

import torch

from tests.benchmarks.passes import QUICK, Sizes


@dataclass
class Run:
    """What all parts share.

    Attributes
    ----------
    device : torch.device
    networks : tuple of str
        Names in torchvision.
    sizes : Sizes
        Of the images and windows of these networks.
    peaks : mapping of str to float
        By precision: TFLOP/s of the device, where they are known or were measured.
    deadline : float
        In the seconds of `time.monotonic`.
    failures : list of str
        Checks that failed.
    skipped : list of str
        What there was no time for.
    """

    device: torch.device
    networks: tuple[str, ...]
    sizes: Sizes
    peaks: dict[str, float]
    deadline: float
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def is_quick(self) -> bool:
        """Whether sizes are so small that times mean nothing."""
        return self.sizes is QUICK

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU, not this machine's processor."""
        return self.device.type == "cuda"

    def say(self, line: str) -> None:
        """Print a line at once: a run that is stopped has shown what it found."""
        print(line, flush=True)

    def check(self, what: str, holds: bool) -> str:
        """Note a failure unless something holds; returns the word for the table."""
        if not holds:
            self.failures.append(what)
        return "ok" if holds else "FAILED"

    def has_time(self, what: str) -> bool:
        """Whether there is time left; says what is skipped if there is none."""
        left = time.monotonic() < self.deadline
        if not left:
            self.skipped.append(what)
            self.say(f"{what}: skipped, because the time (--minutes) is spent")
        return left
