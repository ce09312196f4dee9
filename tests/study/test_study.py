"""The whole study through Snakemake on a small cohort: results, reruns, faults on purpose."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import image

from tests.study.cohort import AFFINE, SHAPE, small_study, write_cohort, write_config
from tests.study.commands import ROOT, chunks_of, planned, preddiff, snakemake


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A finished study: its folder, its configuration file and its settings."""
    folder = tmp_path_factory.mktemp("study")
    settings = small_study(write_cohort(folder / "cohort"), "small")
    config = write_config(folder / "config.yaml", settings)
    done = snakemake(folder, config)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, config, settings


def test_nothing_is_left_to_do(study) -> None:
    folder, config, _ = study
    assert planned(folder, config) == {}


def test_stores_open_with_xarray_as_the_contract_says(study) -> None:
    results = study[0] / "results/small"
    expectations = xr.open_zarr(results / "expectations/samples.zarr")
    windows = ("window_x", "window_y", "window_z")
    assert expectations["mean"].dims == ("item", "target", *windows)
    assert expectations["variance"].dims == ("item", "target", *windows)
    assert expectations["reference"].dims == ("item", "target")
    assert expectations["mean"].dtype == np.float32
    # All that contain a slice of the slab, from 4 to 9.
    assert list(expectations["window_x"].values) == [3, 4, 5, 6, 7, 8, 9]
    assert expectations["mean"].notnull().all()
    relevance = xr.open_zarr(results / "relevance/marginal.zarr")
    assert relevance["relevance"].dims == ("item", "target", "x", "y", "z")
    assert relevance["stderr"].dims == relevance["relevance"].dims
    assert list(relevance["x"].values) == [4, 5, 6, 7, 8, 9]
    assert list(relevance["target"].values) == ["probability:patient", "logit:control"]
    assert relevance.attrs["provenance"]["k"] == 2


def test_classifier_is_reported_honestly(study) -> None:
    folder = study[0] / "results/small/classifiers/logistic"
    scores = json.loads((folder / "cv.json").read_text())
    table = pd.read_csv(folder / "cv.tsv", sep="\t")
    assert scores["items"] == len(table) == 12  # balanced: six of each
    assert scores["accuracy_mean"] == pytest.approx(np.mean(scores["accuracy_per_fold"]))
    assert np.trace(scores["confusion"]) == table["correct"].sum()
    assert not list(folder.glob("*.pkl"))


def test_relevance_finds_the_lesion(study) -> None:
    table = pd.read_csv(
        study[0] / "results/small/tables/localisation-logistic-summary.tsv", sep="\t"
    )
    auc = table[table["measure"] == "roc_auc"].set_index("map")["mean"]
    assert set(auc.index) >= {"exact", "location", "marginal", "weights"}
    assert auc["marginal"] > 0.7


def test_a_table_says_how_much_surroundings_foretell(study) -> None:
    table = pd.read_csv(study[0] / "results/small/tables/foretold.tsv", sep="\t")
    assert set(table["k"]) == {2} and set(table["l"]) == {4}
    assert table["warning"].isna().all()
    shares = table.set_index("explanation")["share_foretold"]
    assert set(shares.index) == {"exact", "samples", "location"}
    assert shares.between(0.3, 0.99).all()
    assert shares["exact"] == shares["samples"] != shares["location"]


def test_samples_scatter_about_the_exact_expectations_as_far_as_they_should(study) -> None:
    results = study[0] / "results/small"
    exact = xr.open_zarr(results / "expectations/exact.zarr")
    samples = xr.open_zarr(results / "expectations/samples.zarr")
    variance = exact["variance"].values.astype(np.float64)
    deviation = (samples["change"] - exact["change"]).values / np.sqrt(variance / 5)
    # Draws of 12,936 windows are independent, so that both are known to a few percent.
    assert deviation.size == 14 * 7 * 12 * 11
    assert abs(deviation.mean()) < 5 / np.sqrt(deviation.size)
    assert np.mean(deviation**2) == pytest.approx(1, abs=0.1)
    assert np.mean(samples["variance"].values / variance) == pytest.approx(1, abs=0.05)


def test_errors_of_relevance_are_those_of_the_draws(study) -> None:
    results = study[0] / "results/small"
    exact = xr.open_zarr(results / "relevance/exact.zarr")
    samples = xr.open_zarr(results / "relevance/samples.zarr")
    assert (exact["stderr"] == 0).all()
    deviation = (samples["relevance"] - exact["relevance"]).values
    expected = np.mean(samples["stderr"].values.astype(np.float64) ** 2)
    # Neighbouring voxels share windows: some 150 are as good as independent in each map.
    assert np.mean(deviation.astype(np.float64) ** 2) == pytest.approx(expected, rel=0.15)


def test_niftis_lie_on_the_input_grid(study) -> None:
    files = sorted((study[0] / "results/small/relevance/exact-nifti").glob("*.nii.gz"))
    assert len(files) == 14
    image = nib.load(files[-1])
    assert image.shape == SHAPE
    assert np.allclose(image.affine, AFFINE)
    stored = xr.open_zarr(study[0] / "results/small/relevance/exact.zarr")["relevance"][-1, 0]
    assert np.allclose(image.get_fdata()[4:10], stored.values)
    assert not image.get_fdata()[:4].any()


def coloured(picture: Path) -> tuple[int, int]:
    """Numbers of pixels of a figure that are clearly red, and clearly blue."""
    red, _, blue = image.imread(picture)[..., :3].transpose(2, 0, 1)
    return int((red > blue + 0.3).sum()), int((blue > red + 0.3).sum())


def test_figures_show_relevance_for_and_against(study) -> None:
    for name in study[2]["figures"]:
        picture = study[0] / f"results/small/figures/{name}.png"
        red, blue = coloured(picture)
        assert red > 1000 and blue > 1000
        assert picture.with_suffix(".pdf").read_bytes()[:4] == b"%PDF"


def test_figures_show_less_above_a_higher_threshold(study, tmp_path: Path) -> None:
    store = study[0] / "results/small/relevance/exact.zarr"
    shown = []
    for threshold in (0.1, 0.9):
        out = tmp_path / f"{threshold}.png"
        options = ("--kind", "subjects", "--threshold", threshold, "--per-class", 1, "--slices", 6)
        done = preddiff("figure", store, *options, "--out", out)
        assert done.returncode == 0, done.stderr
        shown.append(sum(coloured(out)))
    # The colour bar alone is the same.
    assert shown[1] < 0.7 * shown[0]


def test_figures_show_slices_of_the_slab_unless_they_are_named(study, tmp_path: Path) -> None:
    store = study[0] / "results/small/relevance/exact.zarr"
    done = preddiff("figure", store, "--kind", "weights", "--out", tmp_path / "weights.png")
    assert done.returncode == 0, done.stderr
    done = preddiff(
        "figure", store, "--kind", "weights", "--slices", 4, 29, "--out", tmp_path / "no.png"
    )
    assert done.returncode == 2 and "slices 4 to 9 of axis 0" in done.stderr


def test_info_tells_what_is_done(study) -> None:
    done = preddiff("info", study[0] / "results/small/expectations/samples.zarr")
    assert "14 of 14 items" in done.stdout
    assert "samples: 5" in done.stdout


LAST = {"relevance", "nifti", "localise", "findings", "figure"}
EXPLAINED = {"open_expectations", "explain", *LAST}
# No figure shows the grey explanation, and it has no NIfTI files.
GREY = EXPLAINED - {"nifti", "figure"}
# docs/cluster.md has the same rows. Setting, its new value, and the rules that run again.
REDONE = [
    ("explanations.exact.samples", 6, EXPLAINED),
    ("explanations.samples.samples", 6, EXPLAINED - {"nifti", "figure"}),
    ("explanations.samples.k", 4, {"foretold", *EXPLAINED} - {"nifti", "figure"}),
    ("explanations.marginal.targets", ["probability:patient"], EXPLAINED - {"nifti", "figure"}),
    ("seed", 4, {"train", "gaussian", "foretold", *EXPLAINED}),
    ("classifiers.logistic.C", 2.0, {"train", *EXPLAINED}),
    ("figures.weights.threshold", 0.3, {"figure"}),
    ("figures.weights.colormap", "PiYG", {"figure"}),
    ("explanations.exact.items_per_job", 7, {"explain", *LAST}),
    ("explanations.exact.batch_size", 7, set()),
]


@pytest.mark.parametrize(("path", "value", "rules"), REDONE)
def test_a_setting_redoes_what_depends_on_it(study, tmp_path: Path, path, value, rules) -> None:
    folder, _, settings = study
    changed = json.loads(json.dumps(settings))
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    assert set(planned(folder, write_config(tmp_path / "config.yaml", changed))) == rules


def test_an_explanation_is_redone_alone(study, tmp_path: Path) -> None:
    changed = json.loads(json.dumps(study[2]))
    changed["explanations"]["samples"]["samples"] = 6
    jobs = planned(study[0], write_config(tmp_path / "config.yaml", changed))
    assert jobs == {
        "open_expectations": 1, "explain": 3, "relevance": 1, "localise": 1, "findings": 1,
    }  # fmt: skip


def test_an_input_file_redoes_what_was_learnt_from_it(study) -> None:
    folder, config, _ = study
    volume = folder / "cohort/sub-03.nii.gz"
    before = volume.stat()
    os.utime(volume)
    try:
        # A file that was touched but not changed is told by its checksum.
        assert planned(folder, config) == {}
        content = volume.read_bytes()
        volume.write_bytes(content + b"\0")
        wanted = {"prepare", "train", "gaussian", "foretold", *EXPLAINED}
        assert set(planned(folder, config)) == wanted
        volume.write_bytes(content)
    finally:
        os.utime(volume, (before.st_atime, before.st_mtime))


@pytest.mark.parametrize(
    ("file", "before", "after", "rules"),
    [
        ("figures/overlay.py", "0.9, 0.0)", "0.8, 0.0)", {"figure"}),
        ("engines/linear.py", "p -= reference", "p -= 2 * reference", EXPLAINED),
        ("samplers/grey.py", "Grey(self.value)", "Grey(2 * self.value)", GREY),
        ("evidence.py", "return -np.asarray", "return -2 * np.asarray", LAST),
        ("errors.py", "class InputError", "class Other:\n    pass\n\n\nclass InputError", set()),
        ("windows.py", "choose k between 1", "take a k between 1", set()),
        ("classifiers/linear_training.py", "folds of the cross-validation", "parts", set()),
        ("engines/incremental/engine.py", "_WORTHWHILE = 0.75", "_WORTHWHILE = 0.5", set()),
        (None, "", "", set()),
    ],
)
def test_code_redoes_what_its_numbers_are_in(
    study, tmp_path: Path, file, before, after, rules
) -> None:
    shutil.copytree(ROOT / "preddiff", tmp_path / "preddiff")
    for path in (tmp_path / "preddiff").rglob("*.py"):
        path.write_text(f"# Comments do not count.\n{path.read_text()}")
    if file is not None:
        path = tmp_path / "preddiff" / file
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
    # Snakemake finds the package beside its Snakefile first.
    snakefile = copy_workflow(tmp_path)
    found = planned(study[0], study[1], "--snakefile", str(snakefile), package=tmp_path)
    assert set(found) == rules


def copy_workflow(folder: Path) -> Path:
    """Copy the Snakefile and its rules to a folder."""
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    return Path(shutil.copy(ROOT / "Snakefile", folder))


def test_cores_and_captions_redo_nothing(study, tmp_path: Path) -> None:
    folder, config, _ = study
    assert planned(folder, config, "--cores", "1") == {}
    snakefile = copy_workflow(tmp_path)
    with (tmp_path / "workflow/report/figure.rst").open("a") as caption:
        caption.write("Another sentence.\n")
    assert planned(folder, config, "--snakefile", str(snakefile)) == {}


def test_interrupted_and_resharded_runs_give_the_same_bits(study, tmp_path: Path) -> None:
    source = study[0] / "results/small"
    shutil.copytree(source, tmp_path / "small")
    store = tmp_path / "small/expectations/samples.zarr"
    intact = xr.open_zarr(source / "expectations/samples.zarr").load()
    for name in ("mean", "change", "variance"):
        for item in (0, 3, 13):  # the files of some items are lost, as if never written
            chunks_of(store, name, item).unlink()
    for first, last in ((9, 14), (0, 1), (1, 9)):
        done = preddiff("explain", store, "--first", first, "--last", last)
        assert done.returncode == 0, done.stderr
    again = xr.open_zarr(store).load()
    for name in ("reference", "mean", "change", "variance"):
        assert intact[name].values.tobytes() == again[name].values.tobytes()


def test_an_incomplete_store_gives_no_relevance(study, tmp_path: Path) -> None:
    source = study[0] / "results/small"
    shutil.copytree(source, tmp_path / "small")
    store = tmp_path / "small/expectations/samples.zarr"
    chunks_of(store, "mean", 2).unlink()
    done = preddiff("relevance", store, "--out", tmp_path / "relevance.zarr")
    assert done.returncode == 2
    assert "sub-02" in done.stderr and "preddiff explain" in done.stderr
    assert not (tmp_path / "relevance.zarr").exists()
    assert not list(tmp_path.glob(".*relevance*"))


def test_a_store_made_by_another_classifier_is_refused(study, tmp_path: Path) -> None:
    source = study[0] / "results/small"
    shutil.copytree(source, tmp_path / "small")
    folder = tmp_path / "small/classifiers/logistic"
    weights = np.load(folder / "weights.npy")
    np.save(folder / "weights.npy", weights * 2)
    store = tmp_path / "small/expectations/exact.zarr"
    chunks_of(store, "mean", 2).unlink()
    done = preddiff("explain", store)
    assert done.returncode == 2
    assert "its classifier changed" in done.stderr and "preddiff open" in done.stderr


def test_open_keeps_a_store_of_the_same_settings_and_starts_others_anew(
    study, tmp_path: Path
) -> None:
    source = study[0] / "results/small"
    shutil.copytree(source, tmp_path / "small")
    results = tmp_path / "small"
    command = [
        "open",
        "--data",
        results / "data/cohort.zarr",
        "--classifier",
        results / "classifiers/logistic",
        "--kind",
        "marginal",
        "--k",
        2,
        "--out",
        tmp_path / "e.zarr",
    ]
    assert preddiff(*command).returncode == 0
    assert preddiff("explain", tmp_path / "e.zarr").returncode == 0
    kept = preddiff(*command)
    assert kept.returncode == 0 and "replaced" not in kept.stderr
    assert "14 of 14 items" in preddiff("info", tmp_path / "e.zarr").stdout
    anew = preddiff(*command, "--stride", 2)
    assert "stride: 1 -> 2" in anew.stderr
    assert "0 of 14 items" in preddiff("info", tmp_path / "e.zarr").stdout


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "sub-03.nii.gz: no such file"),
        ("truncated", "truncated"),
        ("grid", "resample all volumes to one grid"),
        ("affine", "another affine"),
        ("nan", "NaN or infinite"),
        ("twice", "'sub-03' is listed twice"),
        ("group", "has group 'patiennt'"),
        ("one class", "no subject has group 'control'"),
    ],
)
def test_bad_cohorts_are_refused_by_name(tmp_path: Path, fault: str, message: str) -> None:
    table = write_cohort(tmp_path / "cohort")
    file = tmp_path / "cohort/sub-03.nii.gz"
    rows = pd.read_csv(table, sep="\t", keep_default_na=False)
    values = nib.load(file).get_fdata().astype(np.float32)
    if fault == "missing":
        file.unlink()
    elif fault == "truncated":
        file.write_bytes(file.read_bytes()[:2000])
    elif fault == "grid":
        nib.save(nib.Nifti1Image(values[1:], AFFINE), file)
    elif fault == "affine":
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), file)
    elif fault == "nan":
        values[3, 3, 3] = np.nan
        nib.save(nib.Nifti1Image(values, AFFINE), file)
    elif fault == "twice":
        rows.loc[5, "participant_id"] = "sub-03"
    elif fault == "group":
        rows.loc[3, "group"] = "patiennt"
    elif fault == "one class":
        rows["group"] = "patient"
    rows.to_csv(table, sep="\t", index=False)
    done = preddiff("prepare", table, "--out", tmp_path / "data.zarr")
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert "sub-03" in done.stderr or fault == "one class"
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_a_bad_volume_stops_the_study_with_its_name(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "cohort")
    (tmp_path / "cohort/sub-03.nii.gz").unlink()
    config = write_config(tmp_path / "config.yaml", small_study(table, "bad"))
    done = snakemake(tmp_path, config)
    assert done.returncode != 0
    assert "subject 'sub-03'" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("explanations.exact.sampels", 5, "unknown key 'sampels': did you mean 'samples'?"),
        ("explanations.exact.sampler", "conditionl", "did you mean 'conditional'?"),
        ("explanations.exact.k", 0, "explanations.exact.k"),
        ("classifiers.logistic.slices", [9, 4], "classifiers.logistic.slices"),
        ("datasets.cohort.phantom", {}, "give exactly one of"),
        ("study", "../elsewhere", "study"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, path, value, message) -> None:
    settings = small_study(write_cohort(tmp_path / "cohort"), "bad")
    *parents, last = path.split(".")
    place = settings
    for parent in parents:
        place = place[parent]
    place[last] = value
    done = snakemake(tmp_path, write_config(tmp_path / "config.yaml", settings), "-n")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--slices", 4, 20], "lie outside the volumes"),
        (["--slices", 4, 9, "--folds", 10], "set the classifier's `folds` to 6 or less"),
    ],
)
def test_bad_classifiers_are_refused(study, tmp_path: Path, settings, message) -> None:
    data = study[0] / "results/small/data/cohort.zarr"
    done = preddiff("train", "--data", data, *settings, "--out", tmp_path / "classifier")
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "classifier/classifier.json").exists()


def test_windows_inside_the_slab_are_not_larger_than_it(study, tmp_path: Path) -> None:
    results = study[0] / "results/small"
    done = preddiff(
        "open",
        "--data",
        results / "data/cohort.zarr",
        "--classifier",
        results / "classifiers/logistic",
        "--kind",
        "marginal",
        "--k",
        7,
        "--no-beyond-slab",
        "--out",
        tmp_path / "e.zarr",
    )
    assert done.returncode == 2 and "choose k between 1 and 6" in done.stderr
    assert not (tmp_path / "e.zarr").exists()


@pytest.mark.slow
def test_real_brains_from_nifti_to_figures(real_cohort: Path, tmp_path: Path) -> None:
    settings = {
        "study": "real",
        "datasets": {
            "brains": {
                "table": str(real_cohort / "participants.tsv"),
                "file": "gm",
                "classes": ["young", "older"],
            }
        },
        "classifiers": {"logistic": {"kind": "logistic", "dataset": "brains", "folds": 4}},
        "samplers": {"conditional": {"kind": "conditional"}, "marginal": {"kind": "marginal"}},
        "explanations": {
            "conditional": {"classifier": "logistic", "sampler": "conditional", "nifti": True},
            "marginal": {"classifier": "logistic", "sampler": "marginal"},
        },
        "figures": {
            "figure-9": {"kind": "weights", "explanations": ["conditional"]},
            "figure-10": {"kind": "subjects", "explanations": ["marginal"], "slices": [39]},
        },
    }
    done = snakemake(tmp_path, write_config(tmp_path / "config.yaml", settings))
    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((tmp_path / "results/real/classifiers/logistic/cv.json").read_text())
    assert scores["items"] == 16
    assert scores["accuracy_mean"] == pytest.approx(0.8125, abs=0.07)
    assert (tmp_path / "results/real/figures/figure-9.png").stat().st_size > 50_000


def test_a_full_disk_is_reported_and_leaves_nothing_behind(study, tmp_path: Path) -> None:
    # A limit on the size of files fails writes in their midst, as a full disk does.
    data = tmp_path / "data.zarr"
    command = [sys.executable, "-m", "preddiff", "prepare", study[0] / "cohort/participants.tsv"]
    limited = f"ulimit -f 4; trap '' XFSZ; exec \"$@\" --out {data}"
    done = subprocess.run(
        ["bash", "-c", limited, "bash", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "data.zarr" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
