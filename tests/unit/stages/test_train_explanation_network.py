"""The stages train-explanation-network and concept-measures, on synthetic images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from preddiff.classifiers import digits, srae_training
from preddiff.classifiers.explanation_network import ExplanationTraining
from preddiff.classifiers.layers import WithMeans
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import load_classifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.concept_data import divide
from preddiff.stages.concept_measures import concept_measures
from preddiff.stages.train_explanation_network import train_explanation_network
from preddiff.storage.checkpoints import CheckpointFolder
from tests.unit.datasets.stores import write_store

CLASSES = tuple(str(n) for n in range(10))
QUICK = ExplanationTraining(classes=["3"], hidden=[12, 8], features=3, epochs=8, rounds=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images of bars, whose class is the place of the bar, and a network that has seen none."""
    generator = np.random.default_rng(0)
    numbers = np.arange(160) % 10
    images = generator.integers(0, 60, (160, 1, 8, 8))
    for image, number in zip(images, numbers, strict=True):
        image[0, number % 8] += 150 + 10 * number
    write_store(
        tmp_path / "data.zarr",
        images.astype(np.uint8),
        scale=1 / 255,
        classes=CLASSES,
        numbers=[int(n) for n in numbers],
        training=[n < 120 for n in range(160)],
    )
    torch.manual_seed(0)
    network = prepared(digits.build(2))
    grey = Standardisation((0.3,), (0.3,))
    Network(network, {"digits": 2}, CLASSES, 120, (8, 8), grey).save(tmp_path / "base")
    return tmp_path / "data.zarr"


def run(data: Path, out: Path, settings: ExplanationTraining = QUICK) -> Network:
    train_explanation_network(data, data.parent / "base", settings, 1, out)
    found = load_classifier(out)
    assert isinstance(found, Network)
    return found


def test_the_network_is_stored_with_its_explanation(data: Path) -> None:
    out = data.parent / "xnn"
    found, base = run(data, out), Network.load(data.parent / "base")
    x = torch.from_numpy(Items(data).read(range(8)))
    assert torch.equal(found.logits(x), base.logits(x))
    assert found.count_maps("xnn.contributions") == 3
    assert (found.classes, found.training_size) == (base.classes, base.training_size)
    assert found.standardisation == base.standardisation
    about = json.loads((out / "xnn.json").read_text())
    # The last layer before the logits, without the dropout before it.
    assert about["layer"] == "relu5" and about["classes"] == {"3": "3"}
    assert about["training_items_of_class"] == [12]
    assert len(about["rounds"]) in (1, 2) and set(about["rounds"][0]["losses"]) == {
        "faithfulness", "reconstruction", "pull_away", "total"
    }  # fmt: skip
    measures = json.loads((out / "cv.json").read_text())
    assert measures["training_items"] == 120 and measures["held_out_items"] == 40
    # The measures are those of the stored network.
    held_out = torch.from_numpy(Items(data).read(range(120, 160)))
    with torch.no_grad():
        graph = WithMeans(found.module, ["xnn.scores"])
        logits, means = graph(found.standardised(held_out))
    error = (means["xnn.scores"][:, 0] - logits[:, 3]).square().mean().sqrt()
    assert measures["3"]["rmse"] == pytest.approx(float(error), rel=1e-4)


def test_concepts_are_measured_beside_baselines(data: Path) -> None:
    run(data, data.parent / "xnn")
    concept_measures(data, data.parent / "xnn", data.parent / "concepts.tsv")
    table = pd.read_csv(data.parent / "concepts.tsv", sep="\t")
    assert list(table) == ["system", "class", "measure", "value", "items"]
    assert table["system"].unique().tolist() == ["srae", "nmf", "pca"]
    measures = json.loads((data.parent / "xnn" / "cv.json").read_text())
    locality = table[table["measure"] == "locality"]["value"]
    assert len(locality) == 3 and locality.between(0, 1).all()
    own = table[(table["system"] == "srae") & (table["measure"] != "locality")]
    values = own.set_index(["class", "measure"])["value"]
    for (name, measure), value in values.items():
        known = measures[str(name)][measure]
        assert (known is None and np.isnan(value)) or known == pytest.approx(value, rel=1e-3)
    with pytest.raises(InputError, match="base: not an explanation network"):
        concept_measures(data, data.parent / "base", data.parent / "concepts.tsv")


def test_feature_maps_are_explained_by_their_means(data: Path) -> None:
    settings = QUICK.model_copy(update={"layer": "relu2", "classes": ["3", "7"], "features": 2})
    found = run(data, data.parent / "xnn", settings)
    assert found.count_maps("xnn.contributions") == 4
    about = json.loads((data.parent / "xnn" / "classifier.json").read_text())
    assert about["architecture"]["explanation-network"]["axes"] == 2
    x = found.standardised(torch.from_numpy(Items(data).read(range(4))))
    with torch.no_grad():
        _, means = WithMeans(found.module, ["relu2", "xnn.encoder.0"])(x)
        first = found.module.get_submodule("xnn").encoder[0]
        wanted = first(means["relu2"].float())
    torch.testing.assert_close(means["xnn.encoder.0"].float(), wanted)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("last", [1, 7, 20])
def test_a_killed_training_goes_on_with_the_same_bits(data: Path, last: int, monkeypatch) -> None:
    monkeypatch.setattr(srae_training, "_INTERVAL", 0.0)
    # One feature never carries a score by two, so that all rounds are run.
    settings = QUICK.model_copy(update={"features": 1})
    run(data, data.parent / "whole", settings)
    write, written = CheckpointFolder.write, []

    def write_and_die(self, name, tensors, about):
        write(self, name, tensors, about)
        written.append(name)
        if len(written) == last:
            raise Killed

    monkeypatch.setattr(CheckpointFolder, "write", write_and_die)
    with pytest.raises(Killed):
        run(data, data.parent / "killed", settings)
    assert not (data.parent / "killed" / "classifier.json").exists()
    monkeypatch.setattr(CheckpointFolder, "write", write)
    run(data, data.parent / "killed", settings)
    for name in ("weights.safetensors", "decoder.safetensors", "xnn.json", "cv.json"):
        whole, killed = ((data.parent / one / name).read_bytes() for one in ("whole", "killed"))
        assert whole == killed, name


def test_checkpoints_of_other_settings_are_not_read(tmp_path: Path) -> None:
    ours, others = (CheckpointFolder(tmp_path, mark) for mark in ("a", "b"))
    tensors = {"x": torch.arange(3.0), "y": torch.tensor(2.0)}
    ours.write("one", tensors, {"round": 4})
    found = ours.read("one")
    assert found is not None and found[1] == {"round": 4}
    assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)
    assert others.read("one") is None and ours.read("two") is None
    ours.remove("one")
    ours.remove("two")
    assert ours.read("one") is None
    (tmp_path / "two.safetensors").write_bytes(b"no checkpoint")
    assert ours.read("two") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "linear"}, "'linear' has negative activations.*such layers are relu1.*relu5"),
        ({"layer": "relu9"}, "has no layer 'relu9'"),
        ({"classes": ["horse"]}, "no class 'horse'"),
        ({"classes": ["3", "3"]}, "'3' is named twice"),
    ],
)
def test_what_cannot_be_explained_is_refused(data: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(data, data.parent / "xnn", QUICK.model_copy(update=changes))


def test_too_few_items_of_a_class_are_counted(data: Path) -> None:
    images = np.zeros((60, 1, 8, 8), dtype=np.uint8)
    write_store(
        data.parent / "few.zarr", images, classes=CLASSES, numbers=[n % 3 for n in range(60)]
    )
    with pytest.raises(InputError, match=r"'3' has 0 training items in .*few\.zarr.* at least 10"):
        train_explanation_network(
            data.parent / "few.zarr", data.parent / "base", QUICK, 1, data.parent / "xnn"
        )


class Vectors(nn.Module):
    """Its layer `maps` has one axis, which makes it neither units nor maps."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ReLU()
        self.signed = nn.Linear(64, 3)

    def forward(self, x):
        return self.signed(self.maps(x.flatten(2)).flatten(1))


def test_a_layer_needs_units_or_maps(data: Path) -> None:
    from preddiff.classifiers.activations import read_activations, rectified_layers

    torch.manual_seed(0)
    grey = Standardisation((0.3,), (0.3,))
    network = Network(prepared(Vectors()), {}, CLASSES[:3], 9, (8, 8), grey)
    with pytest.raises(InputError, match="neither units nor feature maps"):
        read_activations(network, "maps", Items(data), [0, 1])
    # Only flattened it can be explained.
    assert rectified_layers(network.module, torch.randn(4, 1, 8, 8)) == ["flatten_1"]
    assert read_activations(network, None, Items(data), [0, 1]).layer == "flatten_1"


def test_items_are_divided_by_the_seed() -> None:
    truth = np.arange(100) % 5
    everything = np.ones(100, dtype=bool)
    training, held_out = divide(truth, everything, [2], 1000, seed=4)
    assert len(held_out) == 20 and sorted([*training, *held_out]) == list(range(100))
    again = divide(truth, ~everything, [2], 1000, seed=4)
    assert (again[0] == training).all()
    assert (divide(truth, everything, [2], 1000, seed=5)[1] != held_out).any()
    # All items of the class take part, and so many others.
    given = np.arange(100) < 60
    training, held_out = divide(truth, given, [2], 7, seed=4)
    assert (truth[training] == 2).sum() == 12 and len(training) == 19 and (training < 60).all()
    assert (truth[held_out] == 2).sum() == 8 and len(held_out) == 15
