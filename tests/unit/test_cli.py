"""The command line's ends: pipes that close early, output that cannot be written, bad options."""

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_has_seen_enough_is_no_error(lines: int) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"preddiff layers squeezenet1_1 | head -n {lines}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_named() -> None:
    done = subprocess.run(
        ["bash", "-c", "preddiff layers squeezenet1_1 > /dev/full"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("preddiff: error: standard output: No space left on device")


def test_colour_maps_must_exist() -> None:
    done = subprocess.run(
        ["preddiff", "figure", "a.zarr", "--kind", "maps", "--colormap", "RdBo_r",
         "--out", "figure.png"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no colour map 'RdBo_r'; did you mean 'RdBu_r'?" in done.stderr


def test_maps_of_one_name_are_refused() -> None:
    done = subprocess.run(
        ["preddiff", "deletion", "a/map.zarr", "b/map.zarr", "--data", "data.zarr",
         "--classifier", "network", "--k", "4", "--out", "table.tsv"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "two maps would be called 'map'" in done.stderr
