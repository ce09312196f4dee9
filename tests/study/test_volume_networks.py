"""Networks of volumes through Snakemake: your own, MONAI's, trained ones, channels, and values."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

from tests.study.cohort import AFFINE, SHAPE, write_cohort, write_config
from tests.study.commands import snakemake

# Of whole volumes of two channels, with one output.
OWN = """
import torch
from torch import nn


def build(outputs, channels):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2),
        nn.Conv3d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, outputs),
    )


def log_odds():
    network = build(1, 2)
    network[-1].weight.data *= 20
    return network


def age():
    return build(1, 2)


def three():
    return build(3, 1)
"""
RESNET = {
    "block": "basic",
    "layers": [1, 1, 1, 1],
    "block_inplanes": [2, 2, 4, 4],
    "conv1_t_size": 3,
    "conv1_t_stride": 2,
    "no_max_pool": True,
}


def monai_state_dict(path: Path) -> Path:
    from monai.networks.nets import ResNet

    torch.manual_seed(0)
    network = ResNet(**RESNET, spatial_dims=3, n_input_channels=1, num_classes=3)
    torch.save(network.state_dict(), path)
    return path


def write_table(folder: Path) -> Path:
    """Write the small cohort with a second channel, three groups and ages."""
    table = write_cohort(folder)
    rows = pd.read_csv(table, sep="\t", keep_default_na=False)
    generator = np.random.default_rng(0)
    for name in rows["participant_id"]:
        values = generator.gamma(2.0, size=SHAPE).astype(np.float32)
        nib.save(nib.Nifti1Image(values, AFFINE), folder / f"{name}_t1.nii.gz")
    rows["t1"] = [f"{name}_t1.nii.gz" for name in rows["participant_id"]]
    rows["age"] = np.linspace(20, 72, len(rows)).round(1)
    rows["site"] = [("a", "b", "c")[number % 3] for number in range(len(rows))]
    rows.to_csv(table, sep="\t", index=False)
    return table


def settings_of(table: Path, folder: Path) -> dict[str, Any]:
    def own(name: str, **more: Any) -> dict[str, Any]:
        return {"kind": "module", "module": f"{folder / 'own.py'}:{name}", **more}

    conditional = {"sampler": "conditional", "k": 4, "l": 6}
    both = {"table": str(table), "file": ["fa", "t1"], "standardise": "volume", "truth": "truth"}
    return {
        "study": "networks",
        "seed": 3,
        "datasets": {
            "both": {**both, "value": "age"},
            "sites": {"table": str(table), "group": "site", "classes": ["a", "b", "c"]},
        },
        "classifiers": {
            "slab": own("log_odds", dataset="both", slices=[3, 10]),
            "age": own("age", dataset="both", outputs="value"),
            "three": own("three", dataset="sites"),
            "trained": {
                "kind": "convolutional",
                "dataset": "both",
                "slices": [3, 10],
                "width": 2,
                "epochs": 20,
                "folds": 3,
            },
            "resnet": {
                "kind": "monai",
                "dataset": "sites",
                "network": "ResNet",
                "arguments": RESNET,
                "weights": str(monai_state_dict(folder / "resnet.pth")),
            },
        },
        "samplers": {
            "conditional": {"kind": "conditional", "patches": 3000},
            "location": {"kind": "conditional", "grid": [2, 2, 2], "cell_patches": 500},
            "grey": {"kind": "grey"},
        },
        "explanations": {
            "accurate": {
                **conditional,
                "classifier": "slab",
                "accuracy": 0.1,
                "items": 2,
                "nifti": True,
            },
            "windows": {
                **conditional,
                "classifier": "slab",
                "stride": 2,
                "samples": 2,
                "items": 3,
                "targets": ["probability:patient", "logit:control", "layer:1:0"],
            },
            "located": {
                **conditional,
                "classifier": "slab",
                "sampler": "location",
                "stride": 3,
                "samples": 2,
                "items": 1,
            },
            "gradient": {"method": "sensitivity", "classifier": "slab", "items": 2},
            "unseen": {
                **conditional,
                "classifier": "trained",
                "held_out": True,
                "stride": 4,
                "samples": 2,
                "targets": ["probability:top-1", "probability:patient"],
            },
            "years": {**conditional, "classifier": "age", "stride": 4, "samples": 2, "items": 2},
            "classes": {
                "sampler": "grey",
                "k": 4,
                "stride": 4,
                "samples": 2,
                "classifier": "three",
                "items": 2,
                "targets": ["probability:top-1", "logit:top-2"],
            },
            "residual": {
                "sampler": "grey",
                "k": 6,
                "stride": 6,
                "samples": 2,
                "classifier": "resnet",
                "items": 1,
                "targets": ["probability:true"],
            },
        },
        "figures": {
            "slices": {"kind": "slices", "explanations": ["accurate"]},
            "years": {"kind": "slices", "explanations": ["years"]},
            "subjects": {"kind": "subjects", "explanations": ["windows"], "slices": [6]},
            "sizes": {"kind": "patch-sizes", "explanations": ["windows", "gradient"]},
        },
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "own.py").write_text(OWN)
    settings = settings_of(write_table(folder / "cohort"), folder)
    done = snakemake(folder, write_config(folder / "config.yaml", settings))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def results(study: Path) -> Path:
    return study / "results/networks"


def load(study: Path, name: str) -> nn.Module:
    namespace: dict[str, Any] = {}
    exec((study / "own.py").read_text(), namespace)
    network: nn.Module = namespace[name]().double().eval()
    return network


def inputs(study: Path, slab: slice) -> np.ndarray:
    """Standardise the cohort's two channels as `prepare` and the network do, with NumPy."""
    cohort = study / "cohort"
    names = pd.read_csv(cohort / "participants.tsv", sep="\t")["participant_id"]
    channels = []
    for end in ("", "_t1"):
        volumes = [
            np.asarray(nib.load(cohort / f"{name}{end}.nii.gz").dataobj, dtype=np.float64)
            for name in names
        ]
        x = np.stack([(one - one.mean()) / one.std() for one in volumes])[:, slab]
        # The first six of each class are for training.
        training = x[[*range(6), *range(6, 12)]]
        channels.append((x - training.mean()) / training.std())
    return np.stack(channels, axis=1)


def test_predictions_are_those_of_the_network(study: Path) -> None:
    x = torch.from_numpy(inputs(study, slice(3, 11)))
    with torch.no_grad():
        expected = torch.sigmoid(load(study, "log_odds")(x))[:, 0].numpy()
    table = pd.read_csv(results(study) / "tables/predictions-both-slab.tsv", sep="\t")
    second = np.where(table["top1"] == 1, table["top1_probability"], table["top2_probability"])
    assert np.allclose(second, expected, atol=1e-5)
    found = xr.open_zarr(results(study) / "relevance/windows.zarr")
    assert np.allclose(found["prediction"][:, 0], expected[:3], atol=1e-5)
    odds = np.log(expected[:3] / (1 - expected[:3]))
    assert np.allclose(found["prediction"][:, 1], -odds, atol=1e-4)


def test_subjects_are_explained_by_networks_that_have_not_seen_them(study: Path) -> None:
    table = pd.read_csv(results(study) / "classifiers/trained/cv.tsv", sep="\t").set_index("item")
    found = xr.open_zarr(results(study) / "relevance/unseen.zarr").load()
    rows = [n for n, name in enumerate(found["item"].values) if str(name) in table.index]
    own = table.loc[[str(name) for name in found["item"].values[rows]]]
    assert len(own) == 12 and set(own["fold"]) == {0, 1, 2}
    prediction = found["prediction"].values[rows]
    assert np.allclose(prediction[:, 1], own["probability:patient"], atol=1e-5)
    both = own[["probability:control", "probability:patient"]].to_numpy()
    assert np.allclose(prediction[:, 0], both.max(axis=1), atol=1e-5)
    # The class at the top is that of the same network, and deletion follows it.
    assert (found["class_number"].values[rows, 0] == both.argmax(axis=1)).all()
    deletion = results(study) / "tables/deletion-both-trained-held-out.tsv"
    assert {*pd.read_csv(deletion, sep="\t")["map"]} == {"unseen", "random"}
    assert not (results(study) / "tables/predictions-both-trained.tsv").exists()


def test_maps_lie_on_the_scan(study: Path) -> None:
    found = xr.open_zarr(results(study) / "relevance/accurate.zarr")
    assert found["relevance"].shape == (2, 1, 8, 13, 12)
    assert found["x"].values.tolist() == list(range(3, 11))
    (image,) = (results(study) / "relevance/accurate-nifti").glob("0001_*.nii.gz")
    volume = nib.load(image)
    assert volume.shape == SHAPE and np.allclose(volume.affine, AFFINE)
    values = np.asarray(volume.dataobj)
    assert np.allclose(values[3:11], found["relevance"][0, 0], atol=1e-6)
    assert not values[:3].any() and not values[11:].any()


def test_the_sensitivity_map_is_the_gradient(study: Path) -> None:
    x = torch.from_numpy(inputs(study, slice(3, 11))[:1]).requires_grad_()
    load(study, "log_odds")(x).sum().backward()
    expected = x.grad.abs().amax(1)[0].numpy()
    found = xr.open_zarr(results(study) / "relevance/gradient.zarr")["relevance"][0, 0].values
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_a_value_is_explained_in_its_unit(study: Path) -> None:
    found = xr.open_zarr(results(study) / "relevance/years.zarr")
    assert found["target"].values.tolist() == ["value:age"]
    assert found["relevance"].attrs["units"] == "value"
    x = torch.from_numpy(inputs(study, slice(None)))
    with torch.no_grad():
        expected = load(study, "age")(x)[:, 0].numpy()
    assert np.allclose(found["prediction"][:, 0], expected[:2], atol=1e-5)
    ages = np.linspace(20, 72, 14).round(1)
    table = pd.read_csv(results(study) / "tables/predictions-both-age.tsv", sep="\t")
    assert np.allclose(table["value"], ages) and np.allclose(
        table["predicted"], expected, atol=1e-5
    )
    scores = json.loads((results(study) / "tables/predictions-both-age.json").read_text())
    assert np.isclose(scores["mean_absolute_error"], np.abs(expected - ages).mean())
    assert np.isclose(scores["r"], np.corrcoef(expected, ages)[0, 1])


def test_three_groups_and_monai(study: Path) -> None:
    classes = xr.open_zarr(results(study) / "relevance/classes.zarr")
    assert classes.attrs["classes"] == ["a", "b", "c"]
    residual = xr.open_zarr(results(study) / "relevance/residual.zarr")
    assert np.isfinite(residual["relevance"]).all() and residual["class_number"][0, 0] == 0
    about = json.loads((results(study) / "classifiers/resnet/classifier.json").read_text())
    assert about["architecture"]["arguments"]["num_classes"] == 3


def test_lesions_are_compared_with_the_centre(study: Path) -> None:
    summary = pd.read_csv(results(study) / "tables/localisation-slab-summary.tsv", sep="\t")
    assert "centre-gaussian" in set(summary["map"]) and "gradient" not in set(summary["map"])
