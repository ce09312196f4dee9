"""The GPU test itself, on a CPU and with tiny sizes: it runs on bare machines, and can fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from preddiff.engines.incremental.boxes import Boxes
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.incremental.network import IncrementalNetwork
from preddiff.evidence import Expectations
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.windows import Windows
from tests.gpu import reading
from tests.gpu.__main__ import PARTS, main
from tests.gpu.bare import missing
from tests.gpu.precision import errors
from tests.gpu.speed import spread
from tests.gpu.subjects import NumPyGaussian

ROOT = Path(__file__).parents[2]
QUICK = ("--device", "cpu", "--quick")


def bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    cores = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    # From the repository's root and no other folder: as the documentation has it.
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu.bare", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **cores, "PYTHONPATH": ""},
    )


@pytest.fixture(scope="module")
def tables() -> dict[str, list[str]]:
    """Lines that each part printed, on a machine with little installed."""
    done = bare("tests.gpu", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks hold" in done.stdout.splitlines()[-1]
    parts = done.stdout.split("\n\n")[1:-1]
    return {part.partition(":")[0]: part.splitlines()[1:-1] for part in parts}


def rows(lines: list[str], start: str) -> list[str]:
    return [line for line in lines if line.startswith(start)]


def numbers(line: str) -> list[float]:
    return [
        float(each) for each in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?:e[+-]\d+)?(?![\w.-])", line)
    ]


def test_all_parts_run_without_other_dependencies(tables) -> None:
    assert {"zarr", "snakemake", "pydantic", "scipy", "yaml", "sklearn", "xarray"} <= missing()
    assert list(tables) == list(PARTS)


def test_what_is_missing_cannot_be_imported() -> None:
    done = bare("preddiff.samplers.base")
    assert done.returncode == 1 and "No module named 'pydantic'" in done.stderr


def test_exactness(tables) -> None:
    for network in ("small 2-D", "small 3-D"):
        dense, incremental = rows(tables["exactness"], network)
        assert "dense" in dense and "incremental" in incremental
        # On the same device, whole passes are the same passes; others differ by rounding.
        assert numbers(dense) == [0, 0] and 0 < max(numbers(incremental)) < 1e-9
        assert dense.endswith("  ok") and incremental.endswith("  ok")


def test_precision(tables) -> None:
    for network in ("small 2-D", "small 3-D", "squeezenet1_1"):
        found = {
            tuple(line.removeprefix(network).split()[:2]): numbers(line)
            for line in rows(tables["precision"], network)
        }
        assert len(found) == 4
        for kind in ("dense", "incremental"):
            full, reduced = found[kind, "float32"], found[kind, "bfloat16"]
            assert 0 < full[0] < 1e-3 and full[0] * 100 < reduced[0] < 1
    assert rows(tables["precision"], "tf32 needs a GPU")


def test_errors_are_in_units_of_the_changes_and_of_the_draws() -> None:
    """Changes of 3 and 4, with variances of 8 over 2 draws, and results that are off by 1."""
    change, variance = (
        np.array(values, dtype=float).reshape(1, 1, 2) for values in ([3, 4], [8, 8])
    )
    exact = Expectations(np.zeros((1, 1)), change, variance)
    found = errors(Expectations(np.zeros((1, 1)), change + 1, variance), exact, samples=2)
    assert found.relative == pytest.approx(1 / np.sqrt(12.5))
    # The standard errors are 2, and that of the mean of two windows 2 / sqrt(2).
    assert found.window == pytest.approx(1 / 2) and found.mean == pytest.approx(1 / np.sqrt(2))


def test_speed(tables) -> None:
    found = [numbers(line) for line in rows(tables["speed"], "squeezenet1_1")]
    assert len(found) == 4 and all(min(row) > 0 for row in found)
    passes = 61 * 61 * 2
    for row in found:
        each, image, ratio = row[:3]
        assert image == pytest.approx(each * passes / 1e3, abs=0.06)
        assert ratio == pytest.approx(found[0][0] / each, rel=0.02)


def test_accuracy(tables) -> None:
    lines = rows(tables["accuracy"], "squeezenet1_1")
    assert [line.split()[1] for line in lines] == ["float32", "bfloat16"]
    # Ten draws of each of 61 x 61 windows are 37,210 passes, of which a fortieth is 930. In
    # bfloat16, a tenth of the windows is drawn in float32 too.
    for line, share in zip(lines, (1, 1.1), strict=True):
        levels, passes, first, image, each, *shift = numbers(line.replace(",", ""))
        assert levels == 6 and 930 * share <= passes < 1.35 * 930 * 1.1 * share
        assert 0 < first < image and each == pytest.approx(1e3 * image / passes, rel=0.02)
        assert len(shift) == (share > 1) and all(0 < one < 0.5 for one in shift)


def test_the_rest(tables) -> None:
    assert rows(tables["reading"], "the Triton kernel is skipped: it needs a GPU")
    (backed_off,) = rows(tables["memory"], "dense")
    assert "32 to 4" in backed_off
    peaks = {line.split()[0]: numbers(line)[0] for line in tables["peak"]}
    assert peaks.keys() == {"float32", "bfloat16"} and min(peaks.values()) > 0
    assert len(tables["hotspots"]) == 2 + 10


def test_a_wrong_engine_is_a_failure(monkeypatch, capsys) -> None:
    evaluate = Incremental._changed
    monkeypatch.setattr(Incremental, "_changed", lambda *args: evaluate(*args) * (1 + 1e-8))
    assert main([*QUICK, "--parts", "exactness"]) == 1
    printed = capsys.readouterr().out
    for network in ("small 2-D", "small 3-D"):
        assert f"FAILED: exactness of {network} incremental" in printed
    assert "\n2 failed" in printed


def test_an_engine_that_goes_on_densely_is_a_failure(monkeypatch, capsys) -> None:
    def fail(*args: object) -> None:
        raise ValueError

    monkeypatch.setattr(IncrementalNetwork, "outputs", fail)
    assert main([*QUICK, "--parts", "exactness"]) == 1
    assert "FAILED: the incremental engine recomputes changes only" in capsys.readouterr().out


def test_wrong_reading_is_a_failure(monkeypatch, capsys) -> None:
    units = Boxes.units
    monkeypatch.setattr(Boxes, "units", lambda self, space: np.roll(units(self, space), 1, 1))
    assert main([*QUICK, "--parts", "reading"]) == 1
    assert "FAILED: torch reads 3 x 9 x 12" in capsys.readouterr().out


def test_a_part_that_fails_does_not_stop_the_others(monkeypatch, capsys) -> None:
    def fail(run: object) -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setitem(PARTS, "reading", fail)
    assert main([*QUICK, "--parts", "peak", "reading", "--peak", "5", "7"]) == 1
    printed, message = capsys.readouterr()
    assert "FAILED: reading: RuntimeError: no such kernel\n" in printed
    assert "in fail" in message
    assert "float32        5.00 TFLOP/s (given)" in printed


def test_what_there_is_no_time_for_is_skipped_and_said(capsys) -> None:
    assert main([*QUICK, "--minutes", "0"]) == 0
    printed = capsys.readouterr().out
    for name in PARTS:
        assert f"{name}: skipped, because the time (--minutes) is spent" in printed
    assert f"all checks hold; {len(PARTS)} skipped; " in printed.splitlines()[-1]


def test_conditioning_by_numpy_is_that_of_the_package() -> None:
    images = torch.rand((5, 3, 12, 12), generator=torch.Generator().manual_seed(0)).numpy()
    ours, theirs = (kind.fit(images, 5, patches=500) for kind in (NumPyGaussian, PatchGaussian))
    found, wanted = (one.conditional(0, 3, (0, 2)) for one in (ours, theirs))
    for name in ("inside", "weights", "offset", "covariance", "factor"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-9)


def test_blocks_are_spread_over_the_image() -> None:
    windows = Windows((24, 24), 5)
    blocks = list(windows.blocks(20))
    assert len(blocks) == 20
    assert [block.number for block in spread(windows, 20, 1)] == [10]
    assert [block.number for block in spread(windows, 20, 3)] == [5, 10, 14]
    assert len(spread(windows, 1000, 3)) == 1


def test_slicing_knows_what_lies_around_and_beyond_the_border() -> None:
    """A box of one unit in the corner of a map of 1, 2, 3, 4, and the region one unit around it."""
    changed, _ = reading.Case(1, (2, 2), 1, 3, 1, 1).make(torch.float32, torch.device("cpu"))
    maps = torch.tensor([[[[1.0, 2], [3, 4]]]])
    corner = Boxes(np.array([[0, 0]]), (1, 1))
    one = type(changed)(reading.Intact(maps), torch.full((1, 1, 1, 1), 9.0), corner)
    found = reading.sliced(one, Boxes(np.array([[-1, -1]]), (3, 3)))
    assert found[0, 0].tolist() == [[0, 0, 0], [0, 9, 2], [0, 3, 4]]
