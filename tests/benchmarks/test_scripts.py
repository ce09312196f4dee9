"""Every benchmark runs on tiny settings, as a process of its own, and prints its table."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preddiff.storage.relevance import create_relevance
from preddiff.storage.stores import array, open_store
from tests.study.cohort import write_cohort
from tests.study.small_store import run as preddiff

FOLDER = Path(__file__).parent
NUMBER = r"(\d+(?:\.\d+)?)"


def printed(script: str, *arguments: object, path: Path | None = None) -> str:
    """Output of a script on one core; modules in the folder `path` hide those installed."""
    found = [str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]
    cores = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | cores
        | {"PYTHONPATH": os.pathsep.join([*([str(path)] if path else []), *filter(None, found)])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str) -> list[float]:
    """Numbers that stand by themselves, not those in names such as squeezenet1_1."""
    return [float(found) for found in re.findall(rf"(?<![\w.]){NUMBER}(?!\w)", text)]


def row(output: str, start: str) -> str:
    """What follows the start of the one line that begins with it."""
    (line,) = [line for line in output.splitlines() if line.startswith(start)]
    return line.removeprefix(start)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `linear.py` needs of a study: data, classifier, and Gaussians of side 7."""
    folder = tmp_path_factory.mktemp("study")
    data = folder / "data/cohort.zarr"
    preddiff("prepare", write_cohort(folder / "cohort"), "--out", data)
    slab = ("--slices", 2, 10)
    preddiff("train", "--data", data, *slab, "--folds", 3, "--out", folder / "classifiers/logistic")
    gaussian = ("gaussian", "--data", data, "--l", 7, "--patches", 1000, *slab)
    preddiff(*gaussian, "--out", folder / "gaussians/cohort-l7-conditional.zarr")
    grid = ("--grid", 2, 2, 2, "--cell-patches", 100)
    preddiff(*gaussian, *grid, "--out", folder / "gaussians/cohort-l7-location-axis0-2-10.zarr")
    return folder


def test_linear(results: Path) -> None:
    sizes = ("--volumes", 2, "--items", 3, "--windows", 20, "--samples", 4, 100)
    output = printed("linear", results, *sizes)
    assert row(output, "(7, 11, 10) windows, ") == "2 volumes of (9, 13, 12) voxels"
    for label in (
        "exact, global: preparation",
        "exact, global: per volume",
        "exact, by location: preparation",
        "exact, by location: per volume",
        "samples, S = 10: per volume",
        "Algorithm 1 literally, S = 10",
        "3 volumes, reading and writing",
    ):
        assert re.match(rf"{NUMBER} s\b", row(output, f"{label}: "))
    for ratio in ("samples / exact: ", "Algorithm 1 literally / exact: "):
        assert float(row(output, ratio)) > 0
    (few, alike), (many, more_alike) = (numbers(row(output, f"S = {s}: ")) for s in (4, 100))
    # 25 times as many draws: a fifth of the error.
    assert 3 < few / many < 8
    assert 0 < alike < more_alike <= 1
    assert float(row(output, "peak memory of all of the above: ").removesuffix(" GB")) > 0


def test_dense() -> None:
    networks = ("shufflenet_v2_x0_5", "squeezenet1_1")
    output = printed(
        "dense", "--quick", "--device", "cpu", "--windows", 20, "--networks", *networks
    )
    for network in networks:
        before, best, batch, ours, *shares = numbers(row(output, network))
        assert batch in (2, 4)
        assert min(before, best, ours) > 0
        # The table's own rounding, to 0.01 ms and 0.01.
        for torch_alone, share in zip((before, best), shares, strict=True):
            low, high = ((torch_alone + d) / (ours - d) for d in (-0.005, 0.005))
            assert low - 0.006 <= share <= high + 0.006
    assert numbers(row(output, "peak memory of the host"))[0] > 0


def test_incremental_without_captum(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'captum'\", name='captum')"
    (tmp_path / "captum.py").write_text(missing)
    networks = ("shufflenet_v2_x0_5", "squeezenet1_1")
    usual = ("--quick", "--device", "cpu", "--rows", 1, "--peak", 0.1)
    output = printed("incremental", *usual, "--networks", *networks, path=tmp_path)
    for network in networks:
        captum, *rest = re.split(r"  +", row(output, network).strip(), maxsplit=1)
        assert captum == "captum is not installed"
        # Two precisions, each with seconds of an image and the ratio to dense passes.
        dense, *ours, memory = numbers(rest[0])
        assert len(ours) == 6
        assert min(dense, memory, *ours) > 0
    shares = [line for line in output.splitlines() if line.startswith("of the floor")]
    assert len(shares) == len(networks)
    for line in shares:
        assert len(re.findall(rf"{NUMBER}%", line)) == 3


def test_growth(tmp_path: Path) -> None:
    out = tmp_path / "figures/growth.png"
    output = printed("growth", "--quick", "--device", "cpu", "--out", out)
    _, *lines = output.splitlines()
    assert [tuple(line.split(":")[0].split()) for line in lines] == [
        *(("k", "2"), ("k", "4"), ("stride", "1"), ("stride", "2")),
        *(("samples", "1"), ("samples", "2"), ("side", "48"), ("side", "64")),
    ]
    for line in lines:
        seconds, milliseconds, flop, speed = numbers(line.split(":")[1])
        assert min(seconds, milliseconds, flop) > 0
        # Whole numbers, of a network so small that it may be none.
        assert speed >= 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_load(tmp_path: Path) -> None:
    output = printed("load", "--items", 20, "--maps", 4, "--folder", tmp_path)
    jobs, seconds, memory = numbers(row(output, "Snakemake plans "))
    assert jobs == 23
    assert min(seconds, memory) > 0
    for what in ("written", "read"):
        assert len(numbers(row(output, f"relevance is {what} at "))) == 2
    # 4 items, 3 targets and 224 x 224 float32, which are noise.
    assert numbers(row(output, "2 MB of noise take ")) == [2]
    # Four arrays, and the files of the store as a whole.
    assert 4 < numbers(row(output, "an expectation store holds "))[0] < 6
    for network in ("alexnet", "googlenet", "vgg16"):
        assert row(output, network).strip().startswith("10 of 20 ")
    assert numbers(row(output, "preddiff status takes "))[0] > 0
    assert list(tmp_path.iterdir()) == []


def test_precision(tmp_path: Path) -> None:
    """Maps of 1 to 16 and standard errors of 4, beside maps of known distance."""
    items, targets = ["first", "second"], ["probability:a", "probability:b"]
    shape = (len(items), len(targets), 4, 4)
    maps = np.broadcast_to(np.arange(1, 17).reshape(4, 4), shape).astype(np.float32)
    others = maps + 1
    others[1, 0] += 1
    # Upside down: the differences are the odd numbers from -15 to 15, whose mean square is 85.
    others[1, 1] = 17 - maps[1, 1]
    stores = tmp_path / "float32.zarr", tmp_path / "bfloat16.zarr"
    for store, values in zip(stores, (maps, others), strict=True):
        classes = np.zeros(shape[:2], dtype=np.int64)
        about = {"space": [4, 4], "corner": [0, 0]}
        create_relevance(store, items, targets, classes, classes + 0.5, {}, about)
        group = open_store(store, "r+")
        array(group, "relevance")[:] = values
        array(group, "stderr")[:] = np.full(shape, 4, dtype=np.float32)
    _, *lines = printed("precision", *stores).splitlines()
    assert lines == [
        "first, probability:a: 1.000000 | 0.0625 | 0.250, 0.250",
        "first, probability:b: 1.000000 | 0.0625 | 0.250, 0.250",
        "second, probability:a: 1.000000 | 0.1250 | 0.500, 0.500",
        f"second, probability:b: -1.000000 | 0.9375 | {85**0.5 / 4:.3f}, 3.750",
    ]


def test_inversion(tmp_path: Path) -> None:
    found = printed("inversion", "--quick", "--network", "squeezenet1_1", "--threads", 1)
    assert len(numbers(row(found, "squeezenet1_1, 2 targets"))) == 4


def test_networks() -> None:
    usual = ("--quick", "--device", "cpu", "--windows", 4)
    output = printed("networks", *usual, "--networks", "squeezenet1_1", "mobilenet_v3_small")
    share, dense, ours, ratio = numbers(row(output, "squeezenet1_1"))[:4]
    assert 0 < share <= 1
    assert min(dense, ours, ratio) > 0
    # Squeeze and excitation.
    assert "whole maps are computed" in row(output, "mobilenet_v3_small")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_accuracy(precision: str) -> None:
    output = printed("accuracy", "--quick", "--threads", 1, "--precision", precision)
    header, columns, row, mean = output.splitlines()
    assert header.startswith("squeezenet1_1, 1 photographs")
    assert "first speed-up" in columns
    number, accuracy, _, _, in_float32, *_ = row.split()
    assert (number, accuracy) == ("0", "0.5")
    assert (float(in_float32) > 0) == (precision == "bfloat16")
    assert mean.split()[:2] == ["mean", "0.5"]


def test_settings(tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    output = printed("settings", "--quick", "--threads", 1, "--figure", figure)
    rows = [line.split(" | ") for line in output.splitlines() if line.count(" | ") == 3][1:]
    labels = [label.strip() for label, *_ in rows]
    assert labels[:3] == [f"S = {samples}, stride 1" for samples in (2, 5, 10)]
    assert [*labels[3:6], labels[-1]] == [
        *(f"S = 10, stride {stride}" for stride in (2, 3, 4)),
        "accuracy 0.4",
    ]
    # Windows at stride 4 on 61 x 61: every fourth, and a last one at the border.
    assert [rows[n][1].strip() for n in (2, 5)] == ["37,210", "2,560"]
    assert all(0 < float(error) < 1 for *_, error in rows)
    assert figure.stat().st_size > 10_000


def test_volume() -> None:
    output = printed("volume", "--quick", "--threads", 1)
    levels = [line.split(" | ") for line in output.splitlines() if re.match(r" +\d \|", line)]
    assert len(levels) >= 3 and float(levels[-1][3]) <= 0.5
    assert re.search(rf"in 27 voxels: error {NUMBER}, said {NUMBER}, noise", output)


def test_volume_networks() -> None:
    usual = ("--quick", "--device", "cpu", "--windows", 4, "--threads", 1)
    output = printed("volume_networks", *usual, "--networks", "convolutional", "ResNet")
    for network in ("convolutional", "ResNet"):
        share, dense, ours, ratio = numbers(row(output, network))[:4]
        assert 0 < share <= 1
        assert min(dense, ours, ratio) > 0


def test_slices(tmp_path: Path) -> None:
    items, targets, shape = ["first", "second"], ["logit:a", "logit:b"], (2, 2, 4, 3, 5)
    # Magnitudes of 8, 2, 4 and 1 in the slices of the first target, of both signs.
    values = np.random.default_rng(0).choice([-1, 1], shape) * np.reshape([8, 2, 4, 1], (4, 1, 1))
    values[:, 1] *= 7
    values[:, 1, :, :, 1:4] = 7
    about = {"space": shape[2:], "corner": [29, 0, 0]}
    classes = np.zeros((2, 2), dtype=np.int64)
    create_relevance(tmp_path / "maps.zarr", items, targets, classes, classes + 0.5, {}, about)
    array(open_store(tmp_path / "maps.zarr", "r+"), "relevance")[:] = values.astype(np.float32)
    (line,) = printed("slices", tmp_path / "maps.zarr").splitlines()
    assert line == "maps: slices 29 to 32: 2.67 0.67 1.33 0.33"
    other = printed("slices", tmp_path / "maps.zarr", "--axis", 2, "--target", 1)
    assert other == "maps: slices 0 to 4: 3.75 1.00 1.00 1.00 3.75\n"
