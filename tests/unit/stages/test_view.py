"""The commands `view` and `serve`: options, messages, and the size of pages of brains."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from preddiff.cli import main
from preddiff.datasets.phantom import anatomy, scan
from preddiff.pages.page import asset
from tests.unit.pages.decoding import Decoded
from tests.unit.pages.studies import Cohort, write_data, write_relevance


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def test_options_choose_what_a_page_shows(tmp_path: Path, capsys) -> None:
    cohort, out = Cohort(tmp_path), tmp_path / "page.html"
    run(
        "view", cohort.results, "--data", "cohort", "--explanations", "second", "--subjects", 2,
        "--budget", 5, "--out", out,
    )  # fmt: skip
    found = Decoded(out).index
    assert len(found["items"]) == 2
    assert [one["name"] for one in found["explanations"]] == ["second"]
    assert "2 of the items of cohort" in capsys.readouterr().err


def test_errors_name_the_folder(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        run("view", tmp_path, "--out", tmp_path / "page.html")
    assert f"{tmp_path}: no relevance of a study is here" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_forty_brains_and_an_explanation_fit_into_60_mb(tmp_path: Path, generator) -> None:
    """The paper's study: a slab of 12 slices. Relevance of noise is the worst for a compressor."""
    one = scan(anatomy(1), patient=True, scanner=0, seed=1, subject=1)
    volume = np.asarray(one.anisotropy, dtype=np.float32)
    brain = volume[29:41] > 0
    noise = np.where(brain, generator.normal(size=brain.shape), 0).astype(np.float32)[None, None]
    results = tmp_path / "results/brains"
    data = results / "data/cohort.zarr"
    write_data(data, volume[None], ["one"], ["patient"], np.eye(4))
    write_relevance(
        results / "relevance/noise.zarr", data, ["one"], noise, np.abs(noise), corner=[29, 0, 0]
    )
    out = tmp_path / "page.html"
    run("view", results, "--out", out)
    of_all = sum(len(asset(name)) for name in ("niivue-0.69.0.umd.js", "volumes.js", "common.js"))
    assert of_all + 40 * (out.stat().st_size - of_all) < 60e6


def test_the_server_tells_where_it_is_and_ends(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    command = [sys.executable, "-m", "preddiff", "serve", str(cohort.results)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split(" ")[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert 'href="cohort.html"' in answer.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert process.returncode == 0
