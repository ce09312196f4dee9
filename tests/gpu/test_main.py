"""The GPU test runs on a CPU, without what only other parts of the package need."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import torch

from preddiff.evidence import Expectations
from tests.benchmarks.passes import QUICK
from tests.gpu import exactness
from tests.gpu.__main__ import PARTS, do, main
from tests.gpu.precision import errors
from tests.gpu.run import Run

ROOT = Path(__file__).parents[2]
# Torchvision needs Pillow.
ALLOWED = {"numpy", "torch", "torchvision", "pillow"}
# None is how Python itself marks modules that cannot be imported.
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
runpy.run_module("tests.gpu", run_name="__main__")
"""


def other_dependencies() -> set[str]:
    """Modules of all packages that the project requires, but those that are allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *itertools.chain(*extras)]
    names = {re.split(r"[^\w.-]", text)[0].lower() for text in required} - ALLOWED
    return {
        module
        for module, packages in packages_distributions().items()
        if names & {package.lower() for package in packages}
    }


def table(output: str, part: str) -> list[str]:
    """Lines that a part printed below its title."""
    lines = output.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(f"{part}: ")]
    return lines[start + 1 : lines.index("", start)]


def test_all_parts_without_other_dependencies() -> None:
    blocked = other_dependencies()
    assert blocked >= {"zarr", "snakemake", "xarray", "sklearn", "nibabel", "pydantic", "scipy"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(blocked), "--quick", "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout
    assert "FAILED" not in printed
    assert re.fullmatch(r"all checks hold; \d+ s", printed.splitlines()[-1])
    for part in PARTS:
        # Each part says how long it took.
        assert re.fullmatch(r"\(\d+\.\d s\)", table(printed, part)[-1])
    exact = [line for line in table(printed, "exactness") if line.endswith("ok")]
    assert len(exact) == 4
    assert "the Triton kernel is skipped: it needs a GPU" in table(printed, "reading")
    assert any("32 to 4 " in line for line in table(printed, "memory"))
    assert sum("TFLOP/s" in line for line in table(printed, "peak")) == 2
    rows = [line.split() for line in table(printed, "speed") if line.startswith("squeezenet")]
    assert [row[1:3] for row in rows] == [
        [kind, precision]
        for precision in ("float32", "bfloat16")
        for kind in ("dense", "incremental")
    ]
    passes = (QUICK.side - QUICK.k + 1) ** 2 * QUICK.samples
    for row in rows:
        # Printed with four and with one decimals.
        assert float(row[4]) == pytest.approx(
            float(row[3]) / 1e3 * passes, abs=0.06 + 1e-7 * passes
        )
        assert float(row[7].removesuffix("%")) > 0
    operators = [line for line in table(printed, "hotspots") if line.endswith("%")]
    assert len(operators) == 10
    compared = table(printed, "precision")
    assert sum("float32" in line for line in compared) == 6
    assert sum("bfloat16" in line for line in compared) == 6


def test_a_check_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exactness, "TOLERANCE", -1.0)
    usual = ["--quick", "--device", "cpu", "--parts", "exactness"]
    assert main([*usual, "peak"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED: exactness of small 3-D incremental" in printed
    assert "TFLOP/s" in printed
    monkeypatch.undo()
    assert main(usual) == 0


def test_time_is_spent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--device", "cpu", "--minutes", "0"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("skipped, because the time") == len(PARTS)
    assert f"{len(PARTS)} skipped" in printed


def test_a_part_that_raises(capsys: pytest.CaptureFixture[str]) -> None:
    def part(run: Run) -> None:
        """Something else"""
        raise ValueError("no such kernel")

    run = Run(torch.device("cpu"), (), QUICK, {}, float("inf"))
    do(run, "kernels", part)
    assert run.failures == ["kernels: ValueError: no such kernel"]
    assert "kernels: Something else" in capsys.readouterr().out


def test_errors() -> None:
    """Changes of 3 and 4, an error of 1 in one of two windows, and standard errors of 0.5."""
    change = np.array([[[[3.0, 4.0]]]])
    variance = np.full_like(change, 2.5)
    exact = Expectations(np.zeros((1, 1)), change, variance)
    found = Expectations(np.zeros((1, 1)), change + np.array([1.0, 0.0]), variance)
    these = errors(found, exact, 10)
    assert these.relative == pytest.approx(np.sqrt(1 / 25))
    assert these.window == pytest.approx(np.sqrt(0.5) / 0.5)
    assert these.mean == pytest.approx(0.5 / (0.5 / np.sqrt(2)))
