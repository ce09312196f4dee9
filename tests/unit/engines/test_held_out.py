"""Networks of folds explain the items that they held out: passes that are made here, one by one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv3d, linear

from preddiff.classifiers import digits
from preddiff.classifiers.convolutional import ConvolutionalTraining
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import load_classifier, store_network
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.predictions import read_predictions
from preddiff.methods.captum import Captum
from preddiff.methods.feature_inversion import FeatureInversion
from preddiff.methods.prediction_difference import ExpectationSettings
from preddiff.methods.sensitivity import Sensitivity
from preddiff.settings.base import validate
from preddiff.stages.deletion import delete_and_insert
from preddiff.stages.explain import explain
from preddiff.stages.map import compute_maps
from preddiff.stages.open import open_expectations
from preddiff.stages.open_maps import open_maps
from preddiff.stages.predict import predict
from preddiff.stages.train_convolutional import train_convolutional
from preddiff.storage.inputs import Inputs
from tests.unit.datasets.stores import write_store

SPACE, SLAB = (9, 7, 8), slice(1, 9)
CLASSES = ("control", "patient")
TRAINED, ITEMS = 9, 11
K, STRIDE, VALUE = 3, 2, 0.25
TARGETS = ["probability:top-1", "logit:control", "probability:patient", "layer:relu2:1"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes, the last two of which are not for training, networks, and their predictions."""
    folder = tmp_path_factory.mktemp("held-out")
    x = np.random.default_rng(3).normal(size=(ITEMS, *SPACE)).astype(np.float32)
    numbers = [n % 2 for n in range(ITEMS)]
    training = [n < TRAINED for n in range(ITEMS)]
    write_store(
        folder / "data.zarr",
        x,
        affine=np.eye(4),
        classes=CLASSES,
        numbers=numbers,
        training=training,
    )
    settings = ConvolutionalTraining(slices=(1, 8), folds=3, epochs=60, width=4)
    train_convolutional(folder / "data.zarr", settings, 5, folder / "network")
    predict(
        folder / "data.zarr",
        folder / "network",
        "cpu",
        1,
        folder / "predictions.tsv",
        held_out=True,
    )
    return folder


class Passes:
    """The networks, read and evaluated without the package, in float64."""

    def __init__(self, study: Path) -> None:
        folder = study / "network"
        table = pd.read_csv(folder / "cv.tsv", sep="\t").set_index("item")
        self.table = table
        self.x = np.asarray(zarr.open_array(study / "data.zarr/intensity")[:, SLAB], dtype=float)
        self.weights, self.moments = [], []
        for number in range(ITEMS):
            path = folder
            if number < TRAINED:
                path = folder / f"folds/{table.loc[f'item-{number}', 'fold']}"
            about = json.loads((path / "classifier.json").read_text())
            self.moments.append((about["mean"][0], about["std"][0]))
            state = load_file(path / "weights.safetensors")
            self.weights.append({name: one.double() for name, one in state.items()})

    def __call__(self, number: int, x: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Logits (2,) of a volume by the network of an item, and the second layer's maps."""
        w, (mean, std) = self.weights[number], self.moments[number]
        values = (torch.as_tensor(x) - mean) / std
        maps = []
        for layer in ("conv1", "conv2", "conv3"):
            values = values[None] if layer == "conv1" else values
            values = conv3d(values, w[f"{layer}.weight"], w[f"{layer}.bias"], stride=2, padding=1)
            values = values.clamp(min=0)
            maps.append(values)
        return linear(values.reshape(-1), w["logits.weight"], w["logits.bias"]), maps[1]

    def top(self, number: int) -> int:
        return int(self(number, self.x[number])[0].argmax())

    def targets(self, number: int, x: np.ndarray) -> np.ndarray:
        """Values of `TARGETS`."""
        logits, maps = self(number, x)
        p = torch.softmax(logits, 0)
        return np.array([p[self.top(number)], logits[0], p[1], maps[1].mean()])

    def redrawn(self, number: int, start: tuple[int, ...]) -> np.ndarray:
        """Values of `TARGETS` of an item with a window filled."""
        x = self.x[number].copy()
        # Windows that overlap the border of the slab begin before it.
        x[tuple(slice(max(n, 0), n + K) for n in start)] = VALUE
        return self.targets(number, x)


@pytest.fixture(scope="module")
def passes(study: Path) -> Passes:
    return Passes(study)


def inputs_of(study: Path) -> Inputs:
    predictions = study / "predictions.tsv"
    return Inputs(study / "data.zarr", study / "network", predictions=predictions)


def expectations(study: Path, out: Path, **windows: Any) -> xr.Dataset:
    usual = {"k": K, "held_out": True, "device": "cpu"}
    settings = {"sampler": {"kind": "grey", "value": VALUE}, "windows": {**usual, **windows}}
    wanted = validate(ExpectationSettings, settings, "test")
    open_expectations(inputs_of(study), wanted, 3, out)
    explain(out, 0, 4, None)
    explain(out, 4, None, None)
    return xr.open_zarr(out).load()


def windows_of(store: xr.Dataset) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Index of each window, and its first voxel within the slab."""
    axes = [store[f"window_{axis}"].values for axis in "xyz"]
    first = (SLAB.start, 0, 0)
    for index in np.ndindex(*map(len, axes)):
        yield index, tuple(int(a[n]) - f for a, n, f in zip(axes, index, first, strict=True))


def test_folds_differ_enough_to_tell_them_apart(passes: Passes) -> None:
    values = [passes(fold, passes.x[0])[0].numpy() for fold in range(ITEMS)]
    distinct = {tuple(np.round(one, 4)) for one in values}
    assert len(distinct) == 4
    own = [passes.top(n) for n in range(TRAINED)]
    of_all = [int(passes(TRAINED, passes.x[n])[0].argmax()) for n in range(TRAINED)]
    assert own != of_all


def test_predictions_are_those_of_the_cross_validation(study: Path, passes: Passes) -> None:
    table = read_predictions(study / "predictions.tsv")
    for number in range(ITEMS):
        item = f"item-{number}"
        p = torch.softmax(passes(number, passes.x[number])[0], 0).numpy()
        assert float(table.loc[item, "probability"]) == pytest.approx(p[number % 2], abs=1e-5)
        assert table.loc[item, "top1"] == p.argmax()
        if number < TRAINED:
            row = passes.table.loc[item]
            assert row["probability:patient"] == pytest.approx(p[1], abs=1e-5)
            assert row["predicted"] == CLASSES[p.argmax()]


@pytest.fixture(params=["dense", "incremental"])
def engine(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[str]:
    """Name of an engine, which is used although it saves little on volumes as small as these."""
    monkeypatch.setattr("preddiff.engines.incremental.engine._WORTHWHILE", 10)
    yield request.param
    assert "densely" not in capsys.readouterr().err


def test_all_passes_of_an_item_are_made_by_its_network(
    study: Path, passes: Passes, tmp_path: Path, engine: str
) -> None:
    found = expectations(
        study, tmp_path / "e.zarr", engine=engine, targets=TARGETS, stride=STRIDE, block=20
    )
    fold = [*passes.table["fold"], -1, -1]
    assert found["fold"].values.tolist() == fold
    tops = found["class_number"].values[:, 0].tolist()
    assert tops == [passes.top(number) for number in range(ITEMS)]
    for number in range(ITEMS):
        reference = passes.targets(number, passes.x[number])
        assert found["reference"].values[number] == pytest.approx(reference, abs=2e-6)
        for index, start in windows_of(found):
            change = passes.redrawn(number, start) - reference
            assert found["change"].values[(number, slice(None), *index)] == pytest.approx(
                change, abs=5e-6
            )


def test_levels_are_drawn_by_the_network_of_an_item(
    study: Path, passes: Passes, tmp_path: Path, engine: str
) -> None:
    found = expectations(
        study, tmp_path / "e.zarr", engine=engine, targets=TARGETS[:3], accuracy=0.3
    )
    drawn = 0
    for number in (0, 3, 8, 9):
        reference = passes.targets(number, passes.x[number])[:3]
        assert found["reference"].values[number] == pytest.approx(reference, abs=2e-6)
        draws = found["draws"].isel(item=number).values
        change = found["change"].isel(item=number)
        for index, start in windows_of(found):
            for level in np.flatnonzero(draws[(slice(None), *index)]):
                drawn += 1
                own = passes.redrawn(number, start)[:3] - reference
                values = change.isel(level=level).values[(slice(None), *index)]
                assert values == pytest.approx(own, abs=5e-6)
    assert drawn > 40


def test_gradients_are_those_of_the_network_of_an_item(
    study: Path, passes: Passes, tmp_path: Path
) -> None:
    common = {"classifier": "network", "targets": ["logit:patient"], "device": "cpu"}
    methods = {
        "sensitivity": Sensitivity(method="sensitivity", held_out=True, **common),
        "saliency": Captum(method="captum", algorithm="Saliency", held_out=True, **common),
    }
    for name, method in methods.items():
        out = tmp_path / f"{name}.zarr"
        open_maps(inputs_of(study), method, 3, out)
        compute_maps(out, 0, 5)
        compute_maps(out, 5)
        found = xr.open_zarr(out).load()
        assert found.attrs["provenance"]["held_out"]
        for number in range(ITEMS):
            x = torch.tensor(passes.x[number], requires_grad=True)
            logits, _ = passes(number, x)
            logits[1].backward()
            # Attributions are per unit of the standardised volume.
            expected = x.grad.abs().numpy() * passes.moments[number][1]
            assert found["prediction"].values[number] == pytest.approx(logits[1].item(), abs=1e-5)
            relevance = found["relevance"].values[number, 0]
            assert relevance == pytest.approx(expected, abs=1e-5 * expected.max() + 1e-7)


def test_deletion_follows_the_network_of_an_item(
    study: Path, passes: Passes, tmp_path: Path
) -> None:
    common = {"classifier": "network", "targets": ["probability:patient"], "device": "cpu"}
    method = Sensitivity(method="sensitivity", held_out=True, **common)
    store = tmp_path / "gradient.zarr"
    open_maps(inputs_of(study), method, 3, store)
    compute_maps(store)
    names = ("out", "summary", "curves")
    tables: dict[str, Any] = {name: tmp_path / f"{name}.tsv" for name in names}
    settings = {"k": K, "random_orders": 1, "seed": 0, "device": "cpu", "threads": 1, **tables}
    places = (study / "data.zarr", study / "network", None)
    delete_and_insert([store], *places, held_out=True, **settings)
    curves = pd.read_csv(tables["curves"], sep="\t").query("map == 'gradient'")
    filled = np.full_like(passes.x[0], passes.x[:TRAINED].mean())
    for share, volumes in ((0, passes.x), (1, [filled] * ITEMS)):
        p = [torch.softmax(passes(n, x)[0], 0)[1].item() for n, x in enumerate(volumes)]
        found = curves[curves["share"] == share]["deletion"].item()
        assert found == pytest.approx(np.mean(p), abs=1e-5)
    with pytest.raises(InputError, match="its maps are of networks of folds: give --held-out"):
        delete_and_insert([store], *places, **settings)


def test_masks_of_items_that_are_optimised_together_are_those_of_their_networks(
    study: Path, passes: Passes, tmp_path: Path
) -> None:
    method = FeatureInversion(
        method="feature-inversion",
        classifier="network",
        targets=["logit:patient"],
        layer="relu1",
        held_out=True,
        items_at_once=4,
        device="cpu",
    )
    open_maps(inputs_of(study), method, 3, tmp_path / "all.zarr")
    compute_maps(tmp_path / "all.zarr")
    found = xr.open_zarr(tmp_path / "all.zarr").load()
    for number in range(ITEMS):
        logits, _ = passes(number, passes.x[number])
        assert found["prediction"].values[number] == pytest.approx(logits[1].item(), abs=1e-5)
    # The network of a fold, as a classifier by itself.
    own = [n for n in range(TRAINED) if passes.table["fold"].iloc[n] == 2]
    by_itself = Inputs(study / "data.zarr", study / "network/folds/2")
    plain = {"held_out": False, "items": [f"item-{number}" for number in own]}
    open_maps(by_itself, method.model_copy(update=plain), 3, tmp_path / "fold.zarr")
    compute_maps(tmp_path / "fold.zarr")
    expected = xr.open_zarr(tmp_path / "fold.zarr")["relevance"].values
    assert found["relevance"].values[own] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_networks_that_the_study_did_not_cross_validate_are_refused(
    study: Path, tmp_path: Path
) -> None:
    plain = Standardisation((0.0,), (1.0,), 2)
    network = digits.build(2)
    store_network(network, {"digits": 2}, tuple("0123456789"), 9, (8, 8), plain, tmp_path)
    items = Items(study / "data.zarr")
    load_classifier(tmp_path, items)
    message = r"the classifier has no models of folds, .*: remove held_out, or choose one of these"
    with pytest.raises(InputError, match=message):
        load_classifier(tmp_path, items, by_fold=True)


def test_a_network_of_a_fold_that_changes_starts_its_items_anew(
    study: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    windows = {"stride": 3, "samples": 2, "engine": "dense", "targets": ["logit:patient"]}
    before = expectations(copy, tmp_path / "e.zarr", **windows)
    settings = {
        "sampler": {"kind": "grey", "value": VALUE},
        "windows": {"k": K, "held_out": True, "device": "cpu", **windows},
    }
    wanted = validate(ExpectationSettings, settings, "test")
    path = copy / "network/folds/1"
    description = json.loads((path / "classifier.json").read_text())
    description["training_size"] += 1
    (path / "classifier.json").write_text(json.dumps(description))
    explained = before["fold"].values != 1
    changed = open_expectations(inputs_of(copy), wanted, 3, tmp_path / "e.zarr")
    assert len(changed) == 1 and changed[0].startswith("items")
    kept = np.isfinite(xr.open_zarr(tmp_path / "e.zarr")["reference"].values[:, 0])
    assert kept.tolist() == explained.tolist()
    description["training_size"] += 1
    (path / "classifier.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"items.*open"):
        explain(tmp_path / "e.zarr", 0, None, None)
