"""Networks of volumes through Snakemake: your own, MONAI's, trained ones, channels, and values."""

import json
from itertools import product
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
            "layer": {
                "sampler": "grey",
                "k": 4,
                "stride": 4,
                "samples": 2,
                "classifier": "age",
                "items": 1,
                "targets": ["value:age", "layer:1:2"],
            },
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
    # The unit is that of the column, which has none.
    assert "units" not in found["relevance"].attrs
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


def test_a_layer_is_explained_beside_the_value(study: Path) -> None:
    found = xr.open_zarr(results(study) / "relevance/layer.zarr")
    assert found["target"].values.tolist() == ["value:age", "map:1:2"]
    assert found["class_number"].values.tolist() == [[0, -1]]
    network, x = load(study, "age"), torch.from_numpy(inputs(study, slice(None))[:1])
    with torch.no_grad():
        expected = [float(network(x)), float(network[:2](x)[:, 2].mean())]
    assert np.allclose(found["prediction"][0], expected, atol=1e-5)
    assert (np.ptp(found["relevance"][0].values, axis=(1, 2, 3)) > 0).all()


def sites(study: Path) -> np.ndarray:
    """Standardise the cohort's volumes by all values of the first four of each of its sites."""
    names = pd.read_csv(study / "cohort/participants.tsv", sep="\t")["participant_id"]
    files = [study / f"cohort/{name}.nii.gz" for name in names]
    x = np.stack([np.asarray(nib.load(file).dataobj, dtype=np.float64) for file in files])
    return ((x - x[:12].mean()) / x[:12].std())[:, None]


def outputs_without_windows(
    network: nn.Module, x: np.ndarray, k: int, stride: int
) -> tuple[list[tuple[slice, ...]], np.ndarray]:
    """Windows of a volume, and the outputs (windows, K) with each replaced by the mean, 0."""
    starts = [sorted({*range(0, n - k, stride), n - k}) for n in SHAPE]
    windows = [tuple(slice(one, one + k) for one in first) for first in product(*starts)]
    replaced = np.repeat(x[None], len(windows), axis=0)
    for volume, window in zip(replaced, windows, strict=True):
        volume[0][window] = 0
    with torch.no_grad():
        return windows, network(torch.from_numpy(replaced)).numpy()


def averaged(windows: list[tuple[slice, ...]], evidence: np.ndarray) -> np.ndarray:
    total, count = np.zeros(SHAPE), np.zeros(SHAPE)
    for window, value in zip(windows, evidence, strict=True):
        total[window] += value
        count[window] += 1
    return total / count


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Log2 odds after the Laplace correction of 12 training items and three classes."""
    corrected = (p * 12 + 1) / (12 + 3)
    return np.log2(corrected / (1 - corrected))


def test_the_top_classes_of_three_are_explained(study: Path) -> None:
    found = xr.open_zarr(results(study) / "relevance/classes.zarr")
    assert found.attrs["classes"] == ["a", "b", "c"]
    x, network = sites(study), load(study, "three")
    with torch.no_grad():
        logits = network(torch.from_numpy(x)).numpy()
    for item in range(2):
        first, second, _ = np.argsort(-logits[item])
        assert found["class_number"][item].values.tolist() == [first, second]
        expected = [softmax(logits[item])[first], logits[item, second]]
        assert np.allclose(found["prediction"][item], expected, atol=1e-5)
        windows, without = outputs_without_windows(network, x[item], 4, 4)
        weight = log_odds(expected[0]) - log_odds(softmax(without)[:, first])
        difference = logits[item, second] - without[:, second]
        for target, evidence in enumerate((weight, difference)):
            relevance = averaged(windows, evidence)
            shown = found["relevance"][item, target]
            assert np.abs(shown - relevance).max() < 1e-3 * np.abs(relevance).max()


def test_a_network_of_monai_is_explained_for_the_true_class(study: Path) -> None:
    from monai.networks.nets import ResNet

    network = ResNet(**RESNET, spatial_dims=3, n_input_channels=1, num_classes=3)
    network.load_state_dict(torch.load(study / "resnet.pth"))
    network, x = network.double().eval(), sites(study)[:1]
    with torch.no_grad():
        p = softmax(network(torch.from_numpy(x)).numpy())[0, 0]
    found = xr.open_zarr(results(study) / "relevance/residual.zarr")
    assert found["class_number"].values.tolist() == [[0]]
    assert np.allclose(found["prediction"], p, atol=1e-5)
    windows, without = outputs_without_windows(network, x[0], 6, 6)
    relevance = averaged(windows, log_odds(p) - log_odds(softmax(without)[:, 0]))
    assert np.abs(found["relevance"][0, 0] - relevance).max() < 1e-3 * np.abs(relevance).max()
    about = json.loads((results(study) / "classifiers/resnet/classifier.json").read_text())
    assert about["architecture"]["arguments"]["num_classes"] == 3


def test_lesions_are_compared_with_the_centre(study: Path) -> None:
    summary = pd.read_csv(results(study) / "tables/localisation-slab-summary.tsv", sep="\t")
    assert "centre-gaussian" in set(summary["map"]) and "gradient" not in set(summary["map"])
