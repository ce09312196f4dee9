"""The study of images through Snakemake: a network of one's own, faulty files, real photographs."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from PIL import Image

from tests.study.cohort import write_config
from tests.study.commands import ROOT, chunks_of, planned, preddiff, snakemake
from tests.study.photographs import SIDE, image_study, write_photographs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A finished study: its folder, its configuration file and its settings."""
    folder = tmp_path_factory.mktemp("images")
    settings = image_study(write_photographs(folder / "photographs"), "small")
    config = write_config(folder / "config.yaml", settings)
    done = snakemake(folder, config)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, config, settings


def results(study: tuple[Path, Path, dict[str, Any]]) -> Path:
    return study[0] / "results/small"


def test_nothing_is_left_to_do(study) -> None:
    assert planned(study[0], study[1]) == {}


def test_faulty_files_are_listed_and_do_not_end_the_study(study) -> None:
    table = pd.read_csv(results(study) / "tables/images-photographs-20-20.tsv", sep="\t")
    found = table.set_index("image")["done"].to_dict()
    assert found == {"cmyk.jpg": "converted", "damaged.png": "left out", "absent.png": "left out"}
    data = xr.open_zarr(results(study) / "data/photographs-20-20.zarr")
    assert data["intensity"].shape == (10, 3, SIDE, SIDE)
    assert float(data["intensity"].min()) >= 0 and 0.5 < float(data["intensity"].max()) <= 1
    assert "cmyk.jpg" in data["item"].values and "absent.png" not in data["item"].values


def test_strict_studies_end_at_a_faulty_file(study, tmp_path: Path) -> None:
    photographs = study[0] / "photographs"
    done = preddiff(
        "prepare-images", "--images", photographs / "sheet.tsv", "--strict", "--crop", 20,
        "--out", tmp_path / "data.zarr", "--report", tmp_path / "report.tsv",
    )  # fmt: skip
    assert done.returncode == 2
    assert "damaged.png" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_right(study) -> None:
    path = results(study) / "tables/predictions-photographs-own"
    assert json.loads(path.with_suffix(".json").read_text())["top1"] == 1
    table = pd.read_csv(path.with_suffix(".tsv"), sep="\t")
    assert (table["rank"] == 1).all() and (table["top1_name"] == table["name"]).all()


def test_stores_open_with_xarray(study) -> None:
    expectations = xr.open_zarr(results(study) / "expectations/conditional.zarr")
    assert expectations["mean"].dims == ("item", "target", "window_y", "window_x")
    assert expectations["mean"].notnull().all()
    assert list(expectations["window_x"].values) == list(range(0, 17, 2))
    relevance = xr.open_zarr(results(study) / "relevance/conditional.zarr")
    assert relevance["relevance"].dims == ("item", "target", "y", "x")
    targets = list(relevance["target"].values)
    assert len(targets) == 1 + 6 + 8 + 1 and targets[-1] == "map:0:1"
    same = relevance["relevance"].sel(target=["probability:true", "probability:top-1"])
    assert np.array_equal(same[:, 0], same[:, 1])  # the network is always right
    classes = relevance["class_number"].sel(item="image-1.png").values
    assert list(classes[:2]) == [1, 1] and list(classes[7:]) == [-1] * 9


def test_relevance_is_where_the_colour_is(study) -> None:
    relevance = xr.open_zarr(results(study) / "relevance/conditional.zarr")["relevance"]
    found = relevance.sel(target="probability:top-1").mean("item").values
    square, border = found[5:13, 6:14].mean(), np.r_[found[:3].ravel(), found[-3:].ravel()].mean()
    assert square > 5 * abs(border)


def test_deletion_is_faster_than_by_chance(study) -> None:
    path = results(study) / "tables/deletion-photographs-own-summary.tsv"
    table = pd.read_csv(path, sep="\t").set_index(["map", "measure"])
    assert table.loc[("conditional", "deletion"), "difference_high"] < 0
    assert set(table.index.levels[0]) == {
        "conditional", "independent", "marginal", "grey", "sensitivity", "random",
    }  # fmt: skip
    curves = pd.read_csv(path.with_name("deletion-photographs-own-curves.tsv"), sep="\t")
    ends = curves[curves["share"] == 1].set_index("map")
    starts = curves[curves["share"] == 0].set_index("map")
    same = ["conditional", "random", "sensitivity"]  # maps of the same items
    assert starts.loc[same, "deletion"].nunique() == ends.loc[same, "deletion"].nunique() == 1


def test_maps_find_the_square(study) -> None:
    path = results(study) / "tables/localisation-photographs-own.tsv"
    table = pd.read_csv(path, sep="\t").set_index(["map", "item"])
    whole = table.loc["conditional"]
    # Of nine images and one that was converted, one has no box and another no mask.
    assert len(whole) == 9 and whole["iou"].count() == 8 and whole["mae"].count() == 9
    assert np.isnan(whole.loc["image-8.png", "iou"]) and "cmyk.jpg" not in whole.index
    assert (whole["target"] == "probability:true").all()
    summary = pd.read_csv(path.with_name("localisation-photographs-own-summary.tsv"), sep="\t")
    found = summary.set_index(["map", "measure"])
    # The square is as large as the surroundings, from which its inside is foretold: maps of
    # marginal and grey sampling fill it, and conditional ones do not.
    for name in ("marginal", "grey"):
        assert (found.loc[[(name, "localised"), (name, "pointing")], "mean"] == 1).all()
        assert found.loc[(name, "iou"), "difference_low"] > 0.3
        assert found.loc[(name, "mae"), "difference_high"] < 0
    assert found.loc[("conditional", "localised"), "mean"] == 0
    assert found.loc[("conditional", "pointing"), "mean"] > 0.5
    assert set(found.index.levels[0]) == {
        "conditional", "independent", "marginal", "grey", "sensitivity",
        "centre-box", "centre-gaussian",
    }  # fmt: skip


def test_a_change_of_annotations_keeps_expectations(study, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(study[0], folder)
    made = folder / "results/small"
    before = when_written(made / "expectations/grey.zarr")
    pixels = np.zeros((24, 26), dtype=np.uint8)
    pixels[:, :3] = 1
    Image.fromarray(pixels).save(folder / "photographs/masks/image-1.png")
    settings = image_study(folder / "photographs", "small")
    settings["explanations"] = {"grey": settings["explanations"]["grey"]}
    settings["figures"] = {}
    done = snakemake(folder, write_config(folder / "config.yaml", settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert when_written(made / "expectations/grey.zarr") == before
    names = "tables/localisation-photographs-own.tsv"
    old, new = (
        pd.read_csv(root / names, sep="\t").set_index(["map", "item"]).loc["grey"]
        for root in (results(study), made)
    )
    changed = (old != new).any(axis=1) & old.notna().all(axis=1)
    assert list(changed.index[changed]) == ["image-1.png"]
    assert new.loc["image-1.png", "mae"] > old.loc["image-1.png", "mae"]


def test_figures_exist_and_are_pictures(study) -> None:
    for name in study[2]["figures"]:
        picture = results(study) / f"figures/{name}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"figures": {"figure-3": {"threshold": 0.3}}}, {"figure"}),
        ({"explanations": {"conditional": {"batch_size": 7}}}, set()),
        (
            {"explanations": {"grey": {"k": 6}}},
            {
                "open_expectations",
                "explain",
                "relevance",
                "deletion",
                "localise_images",
                "findings",
            },
        ),
        (
            {"explanations": {"sensitivity": {"items": 3}}},
            {"open_maps", "map", "deletion", "figure", "localise_images", "findings"},
        ),
    ],
)
def test_a_change_redoes_what_depends_on_it(study, tmp_path: Path, change, rules) -> None:
    folder, _, settings = study
    changed = json.loads(json.dumps(settings))
    for section, objects in change.items():
        for name, keys in objects.items():
            changed[section][name].update(keys)
    assert set(planned(folder, write_config(tmp_path / "config.yaml", changed))) == rules


def test_interrupted_runs_give_the_same_bits(study, tmp_path: Path) -> None:
    shutil.copytree(study[0], tmp_path / "copy")
    store = tmp_path / "copy/results/small/expectations/conditional.zarr"
    intact = xr.open_zarr(store).load()
    for item in (0, 7):
        chunks_of(store, "mean", item).unlink()
    for first, last in ((5, 10), (0, 5)):
        done = preddiff("explain", store, "--first", first, "--last", last, "--threads", 2)
        assert done.returncode == 0, done.stderr
    again = xr.open_zarr(store).load()
    for name in ("reference", "mean", "change", "variance"):
        assert intact[name].values.tobytes() == again[name].values.tobytes()


def test_an_image_that_is_added_is_explained_alone(study, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(study[0], folder)
    store = folder / "results/small/expectations/grey.zarr"
    before = when_written(store)
    photographs = folder / "photographs"
    shutil.copy(photographs / "image-0.png", photographs / "another.png")
    header, *rows = (photographs / "sheet.tsv").read_text().splitlines()
    (photographs / "sheet.tsv").write_text("\n".join([header, "another.png\tred", *rows]) + "\n")
    settings = image_study(photographs, "small")
    # The sampler goes on to learn from the images that it learnt from before.
    settings["datasets"]["before"] = study[2]["datasets"]["photographs"]
    settings["samplers"] = {"grey": {"kind": "grey", "dataset": "before"}}
    settings["explanations"] = {"grey": settings["explanations"]["grey"] | {"items": 5}}
    settings["figures"] = {}
    done = snakemake(folder, write_config(folder / "config.yaml", settings))
    assert done.returncode == 0, done.stdout + done.stderr
    after = when_written(store)
    assert list(after) == ["another.png", *before]
    assert {name: after[name] for name in before} == before


def when_written(store: Path) -> dict[str, int]:
    """When the expectations of each item were written last, in nanoseconds."""
    items = xr.open_zarr(store)["item"].values
    files = {name: chunks_of(store, "mean", number) for number, name in enumerate(items)}
    return {str(name): file.stat().st_mtime_ns for name, file in files.items()}


def forget_means(store: Path) -> None:
    for file in (store / "mean").glob("c.*"):
        file.unlink()


def test_a_network_that_changed_is_refused(study, tmp_path: Path) -> None:
    shutil.copytree(study[0], tmp_path / "copy")
    store = tmp_path / "copy/results/small/expectations/grey.zarr"
    forget_means(store)
    with (tmp_path / "copy/photographs/network.py").open("a") as file:
        file.write("# changed\n")
    done = preddiff("explain", store)
    assert done.returncode == 2 and "changed since the classifier was stored" in done.stderr


def test_images_that_changed_are_refused(study, tmp_path: Path) -> None:
    shutil.copytree(study[0], tmp_path / "copy")
    folder, made = tmp_path / "copy/photographs", tmp_path / "copy/results/small"
    forget_means(made / "expectations/grey.zarr")
    shutil.copy(folder / "image-1.png", folder / "image-0.png")
    done = preddiff(
        "prepare-images", "--images", folder / "sheet.tsv", "--classes", folder / "classes.txt",
        "--resize", 20, "--crop", 20, "--report", tmp_path / "report.tsv",
        "--out", made / "data/photographs-20-20.zarr",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = preddiff("explain", made / "expectations/grey.zarr")
    assert done.returncode == 2 and "its items changed" in done.stderr


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("classifiers.own.kind", "modul", "unknown kind 'modul': valid kinds are"),
        ("classifiers.own.mean", None, "classifiers.own: mean is required"),
        ("classifiers.own.reszie", 3, "did you mean 'resize'?"),
        ("explanations.grey.dataset", None, "explanations.grey.dataset: this key is required"),
        ("explanations.grey.estimator", "exact", "no exact expectations for networks"),
        ("explanations.grey.nifti", True, "NIfTI files are written for volumes only"),
        ("explanations.conditional.targets", ["odds:red"], "write it as"),
        ("samplers.conditional.grid", [2, 2, 2], "needs volumes"),
        ("figures.figure-1.explanations", ["conditional"], "such as method sensitivity"),
        (
            "figures.figure-5",
            {"kind": "weights", "explanations": ["conditional"]},
            "of kind weights show volumes",
        ),
        ("datasets.photographs.images", "nowhere", "nowhere: no such images: provide"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, path, value, message) -> None:
    settings = image_study(write_photographs(tmp_path / "photographs", 3), "bad")
    *parents, last = path.split(".")
    place = settings
    for parent in parents:
        place = place[parent]
    place[last] = value
    done = snakemake(tmp_path, write_config(tmp_path / "config.yaml", settings), "-n")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["probability:purple"], "no class 'purple'"),
        (["layer:3:99"], "maps 0 to 7"),
        (["layer:conv9"], "preddiff layers"),
        (["logit:top-11"], "only the top 3 classes"),
    ],
)
def test_targets_that_a_network_does_not_have_are_refused(
    study, tmp_path, targets, message
) -> None:
    done = preddiff(
        "open", "--data", results(study) / "data/photographs-20-20.zarr",
        "--classifier", results(study) / "classifiers/own", "--kind", "grey", "--k", 4,
        "--predictions", results(study) / "tables/predictions-photographs-own.tsv",
        "--targets", *targets, "--out", tmp_path / "e.zarr",
    )  # fmt: skip
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "e.zarr").exists()


def test_layers_are_listed(study) -> None:
    done = preddiff("layers", results(study) / "classifiers/own")
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()][1:5] == [
        ["0", "6", "20", "x", "20"],
        ["1", "6", "20", "x", "20"],
        ["2", "6", "10", "x", "10"],
        ["3", "8", "10", "x", "10"],
    ]


def test_imagenet_configuration_says_what_to_provide(tmp_path: Path) -> None:
    done = snakemake(tmp_path, ROOT / "config/imagenet.yaml", "-n")
    assert done.returncode != 0
    assert "imagenet/val: no such images: provide a sheet" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def real_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with real photographs and weights, linked, and a sheet of those to explain."""
    given = os.environ.get("PREDDIFF_TEST_IMAGENET")
    if not given:
        pytest.skip("PREDDIFF_TEST_IMAGENET does not name a folder with real photographs")
    folder = tmp_path_factory.mktemp("real")
    (folder / "given").symlink_to(Path(given).resolve())
    table = pd.read_csv(folder / "given/images.tsv", sep="\t")
    chosen = table[table["file"].str.startswith("explain/")]
    sheet = pd.DataFrame({"file": "given/" + chosen["file"], "class": chosen["class_index"]})
    sheet.to_csv(folder / "sheet.tsv", sep="\t", index=False)
    return folder


def imagenet_study(folder: Path) -> dict[str, Any]:
    """The project's configuration of ImageNet, coarse, with the weights and images at hand."""
    settings = yaml.safe_load((ROOT / "config/imagenet.yaml").read_text())
    classes = str(folder / "given/classes.tsv")
    settings["datasets"] = {
        "photographs": {"images": str(folder / "sheet.tsv"), "classes": classes},
        "training": {"images": str(folder / "given/train"), "count": 100},
    }
    network = {"kind": "torchvision", "resize": 256, "crop": 224}
    settings["classifiers"] = {
        "mobilenet": {
            **network,
            "name": "mobilenet_v2",
            "weights": str(folder / "given/mobilenet_v2.pth"),
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "squeezenet": {
            **network,
            "name": "squeezenet1_1",
            "weights": str(folder / "given/squeezenet1_1.pth"),
        },
    }
    coarse = {"dataset": "photographs", "sampler": "conditional", "k": 10, "l": 14, "stride": 10}
    settings["explanations"] = {
        name: {**coarse, "classifier": name, "targets": ["probability:true"], "items": 4}
        for name in settings["classifiers"]
    }
    settings["explanations"]["inversion"] = {
        "method": "feature-inversion", "classifier": "mobilenet", "dataset": "photographs",
        "targets": ["probability:top-1", "probability:top-2"], "items": 4,
    }  # fmt: skip
    both = list(settings["classifiers"])
    settings["figures"] = {"figure-8": {"kind": "compare", "explanations": both, "items": 2}}
    return settings


@pytest.mark.slow
def test_real_photographs_through_two_real_networks(real_images: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", imagenet_study(real_images))
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stdout + done.stderr
    tables = tmp_path / "results/imagenet/tables"
    for network, top1 in (("mobilenet", 28 / 34), ("squeezenet", 27 / 34)):
        path = tables / f"predictions-photographs-{network}"
        assert json.loads(path.with_suffix(".json").read_text())["top1"] == pytest.approx(top1)
        right = pd.read_csv(path.with_suffix(".tsv"), sep="\t").query("rank == 1")["item"]
        areas = pd.read_csv(tables / f"deletion-photographs-{network}.tsv", sep="\t")
        areas = areas[areas["item"].isin(right)].pivot(
            index="item", columns="map", values="deletion"
        )
        assert len(areas) >= 4
        # Windows that do not overlap tell little of a single photograph.
        assert areas[network].mean() < 0.9 * areas["random"].mean()
    assert (tmp_path / "results/imagenet/figures/figure-8.png").stat().st_size > 50_000
    masks = xr.open_zarr(tmp_path / "results/imagenet/relevance/inversion.zarr")
    assert float(masks["relevance"].min()) >= 0 and float(masks["relevance"].max()) <= 1
    # Of 34 photographs, 96% of the masks raise their class, and those of two classes mostly differ.
    assert (masks["kept"].values > masks["removed"].values).sum() >= 6
    pairs = masks["relevance"].values.reshape(4, 2, -1)
    assert sum(np.corrcoef(pair)[0, 1] < 0.9 for pair in pairs) >= 3
