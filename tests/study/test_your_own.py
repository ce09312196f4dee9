"""A user's own network, sampler and method: the example of docs/your-own.md, and faults in it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from tests.study.cohort import small_study, write_cohort, write_config
from tests.study.commands import ROOT, planned, snakemake
from tests.study.photographs import write_photographs

PAGE = (ROOT / "docs/your-own.md").read_text()


def example(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the finished example."""
    folder = tmp_path_factory.mktemp("own")
    write_photographs(folder / "images", 4, faults=False)
    for path in (folder / "images").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".png":
            path.unlink()
    (folder / "own.py").write_text(example("python"))
    (folder / "study.yaml").write_text(example("yaml"))
    done = snakemake(folder, folder / "study.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_example_runs_through_to_its_figure(study: Path) -> None:
    results = study / "results/own"
    for name in ("windows", "gradient"):
        relevance = xr.open_zarr(results / f"relevance/{name}.zarr")
        assert relevance["relevance"].shape == (4, 1, 16, 16)
        assert relevance["relevance"].notnull().all() and (relevance["relevance"] != 0).any()
    assert (relevance["stderr"] == 0).all()
    assert (xr.open_zarr(results / "relevance/windows.zarr")["stderr"] > 0).any()
    assert (results / "figures/both.png").exists()
    assert planned(study, study / "study.yaml") == {}


def test_maps_of_an_own_method_are_what_the_function_returns(study: Path) -> None:
    namespace: dict[str, object] = {}
    exec(example("python"), namespace)
    network = namespace["network"]().eval()
    pixels = xr.open_zarr(study / "results/own/data/images-16-16.zarr")["intensity"][1].values
    x = torch.from_numpy((pixels.astype(np.float32) - 0.5) / 0.2).requires_grad_()
    logits = network(x[None])[0]
    (gradient,) = torch.autograd.grad(logits[logits.argmax()], x)
    expected = (gradient * x).sum(0).detach().numpy()
    found = xr.open_zarr(study / "results/own/relevance/gradient.zarr")["relevance"][1, 0].values
    assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_change_of_the_file_redoes_what_was_made_by_it(study: Path) -> None:
    file = study / "own.py"
    before = file.read_text()
    try:
        file.write_text(before.replace("(gradient * x).sum(0)", "(gradient * x).mean(0)"))
        done = planned(study, study / "study.yaml")
    finally:
        file.write_text(before)
    assert {"module", "open_maps", "map", "open_expectations"} <= set(done)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("other = 3", "no function or class 'method'"),
        ("method = 3", "is a int, not a function"),
        ("def method(value, x): return x", "must have one value per voxel"),
        ("def method(value, x): return x[0] / 0", "its relevance is not finite"),
        ("def method(value, x): raise ValueError('odd')", "ValueError: odd"),
    ],
)
def test_faulty_methods_are_named(tmp_path: Path, text: str, message: str) -> None:
    done = run_on_volumes(tmp_path, text, {"method": "module", "classifier": "logistic"}, "method")
    assert message in done and "own.py" in done


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def sampler(training): return 3", "must return a function draw"),
        ("def sampler(training): return lambda *a: a[0]", "returned draws of shape"),
        (
            "def sampler(training): return lambda x, m, s, g: x.repeat(s, 1, 1, 1, 1) / 0",
            "values that are not finite",
        ),
    ],
)
def test_faulty_samplers_are_named(tmp_path: Path, text: str, message: str) -> None:
    explanation = {"classifier": "logistic", "sampler": "own", "k": 2, "samples": 2, "items": 1}
    done = run_on_volumes(tmp_path, text, explanation, "sampler")
    assert message in done and "own.py" in done


def run_on_volumes(folder: Path, text: str, explanation: dict[str, object], name: str) -> str:
    """Run a study of volumes that uses a file; what it prints when it fails."""
    (folder / "own.py").write_text(f"{text}\n")
    settings = small_study(write_cohort(folder / "cohort"), "own")
    own = {"module": f"{folder / 'own.py'}:{name}"}
    if name == "sampler":
        settings["samplers"] = {"own": {"kind": "module", **own}}
        settings["explanations"] = {"own": explanation}
    else:
        settings["explanations"] = {"own": {**explanation, **own, "items": 1}}
    settings["figures"] = {}
    done = snakemake(folder, write_config(folder / "config.yaml", settings))
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_own_samplers_and_methods_work_on_volumes(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "from helper import FACTOR\n"
        "def zero(training):\n"
        "    assert len(training) == 12 and training[0].shape == (1, 8, 13, 12)\n"
        "    return lambda x, mask, samples, generator: (x * ~mask).repeat(samples, 1, 1, 1, 1)\n"
        "def weights(value, x):\n"
        "    x.requires_grad_()\n"
        "    return FACTOR * torch.autograd.grad(value(x[None]).sum(), x)[0][0]\n"
    )
    settings = small_study(write_cohort(tmp_path / "cohort"), "own")
    settings["samplers"] = {"own": {"kind": "module", "module": f"{tmp_path}/own.py:zero"}}
    logits = {"classifier": "logistic", "targets": ["logit:patient"], "items": 2}
    settings["explanations"] = {
        "zero": {**logits, "sampler": "own", "k": 2, "samples": 2},
        "weights": {**logits, "method": "module", "module": f"{tmp_path}/own.py:weights"},
        "sensitivity": {**logits, "method": "sensitivity"},
    }
    settings["figures"] = {"slices": {"kind": "slices", "explanations": ["weights"]}}
    config = write_config(tmp_path / "config.yaml", settings)
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/own"
    weights = np.load(results / "classifiers/logistic/weights.npy")[0]
    own = xr.open_zarr(results / "relevance/weights.zarr")["relevance"][0, 0].values
    assert np.allclose(own, 2 * weights, rtol=1e-5)
    gradient = xr.open_zarr(results / "relevance/sensitivity.zarr")["relevance"][0, 0].values
    assert np.allclose(gradient, np.abs(weights), rtol=1e-5)
    # Emptying a window changes the logit by its own contribution: no draws, no surroundings. The
    # first and the last windows are in the slab, from 4 to 9, by one slice only.
    x = xr.open_zarr(results / "data/cohort.zarr")["intensity"][0, 3:11].values.astype(np.float64)
    weights = np.pad(weights, ((1, 1), (0, 0), (0, 0)))
    change = xr.open_zarr(results / "expectations/zero.zarr")["change"][0, 0].values
    contribution = np.lib.stride_tricks.sliding_window_view(weights * x, (2, 2, 2)).sum((3, 4, 5))
    assert np.allclose(change, -contribution, rtol=1e-4, atol=1e-6)
    (tmp_path / "helper.py").write_text("FACTOR = 3.0\n")
    again = planned(tmp_path, config)
    assert set(again) >= {"open_maps", "map", "open_expectations"}
