"""The GPU test: exactness, precision, kernel, memory and speed of the engines, in minutes.

    python -m tests.gpu [--device cuda] [--networks alexnet ...] [--parts speed ...] [--quick]

Run it in the root of the repository, before and after each change of the engines. It needs Python,
torch, torchvision and NumPy only. Each part prints a table; a part that fails does not stop the
others. The exit status is 1 if a check or a part failed. What is left when the time (`--minutes`)
is spent is skipped, row by row. `--quick` shows within seconds, on a CPU as well, that everything
runs; its times mean nothing.
"""

import argparse
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import torch
from torchvision import models

from preddiff.devices import device_of, use_cores
from tests.benchmarks.passes import QUICK, Sizes
from tests.gpu import accuracy, exactness, hotspots, memory, precision, reading, speed
from tests.gpu.run import Run

PARTS: dict[str, Callable[[Run], None]] = {
    "exactness": exactness.part,
    "reading": reading.part,
    "memory": memory.part,
    "peak": speed.measure_peaks,
    "speed": speed.part,
    "accuracy": accuracy.part,
    "hotspots": hotspots.part,
    "precision": precision.part,
}
USUAL = ("alexnet", "googlenet", "vgg16", "resnet50", "mobilenet_v2")
QUICK_NETWORKS = ("squeezenet1_1",)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--networks", nargs="+", choices=models.list_models(), metavar="NAME")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument(
        "--peak",
        nargs=2,
        type=float,
        metavar=("FLOAT32", "BFLOAT16"),
        help="TFLOP/s of the device, instead of those of a matrix product",
    )
    parser.add_argument("--minutes", type=float, default=8, help="after which the rest is skipped")
    parser.add_argument("--quick", action="store_true", help="tiny images and few draws")
    arguments = parser.parse_args(given)
    start = time.monotonic()
    use_cores(None)
    run = Run(
        device_of(arguments.device),
        tuple(arguments.networks or (QUICK_NETWORKS if arguments.quick else USUAL)),
        QUICK if arguments.quick else Sizes(),
        dict(zip(("float32", "bfloat16"), arguments.peak or (), strict=False)),
        start + 60 * arguments.minutes,
    )
    run.say(about(run.device))
    for name, part in PARTS.items():
        if name in arguments.parts:
            do(run, name, part)
    for failure in run.failures:
        run.say(f"FAILED: {failure}")
    verdict = "all checks hold" if not run.failures else f"{len(run.failures)} failed"
    if run.skipped:
        verdict += f"; {len(run.skipped)} skipped"
    run.say(f"\n{verdict}; {time.monotonic() - start:.0f} s")
    return 1 if run.failures else 0


def do(run: Run, name: str, part: Callable[[Run], None]) -> None:
    """Do a part, unless the time is spent; whatever it raises is a failure of this part only."""
    run.say(f"\n{name}: {part.__doc__}")
    if not run.has_time(name):
        return
    start = time.monotonic()
    try:
        part(run)
    except Exception as problem:
        traceback.print_exc()
        run.check(f"{name}: {type(problem).__name__}: {problem}".splitlines()[0], False)
    run.say(f"({time.monotonic() - start:.1f} s)")


def about(device: torch.device) -> str:
    """Device and versions, which numbers depend on."""
    lines = [
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    ]
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        lines.insert(
            0,
            f"{found.name}, {found.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}",
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
