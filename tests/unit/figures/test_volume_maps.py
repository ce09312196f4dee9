"""What figures of volumes say of linear classifiers: predictions, labels, weights, subjects."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from preddiff.classifiers.linear import LinearClassifier
from preddiff.figures.volume_maps import VolumeMaps, subject_of
from preddiff.storage.inputs import Inputs
from preddiff.storage.relevance import create_relevance
from preddiff.targets import Target
from tests.unit.datasets.stores import write_store

SPACE = (4, 3, 3)
GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(6, *SPACE)).astype(np.float32)
CORNER = (1, 0, 0)
WEIGHTS = GENERATOR.normal(size=(3, 1, 2, 3, 3))


def classifier(
    classes: tuple[str, ...], has_probabilities: bool, seed: int = 0
) -> LinearClassifier:
    weights = WEIGHTS + seed
    outputs = weights if len(classes) > 2 else weights[0]
    intercept = np.array([0.1, 0.2, 0.3]) if len(classes) > 2 else 0.1
    return LinearClassifier(outputs, intercept, classes, 6, CORNER, has_probabilities)


def maps(folder: Path, one: LinearClassifier, target: str) -> VolumeMaps:
    classes = one.classes if len(one.classes) > 1 else ()
    numbers = [n % len(classes) if classes else -1 for n in range(6)]
    items = write_store(folder / "data.zarr", X, affine=np.eye(4), classes=classes, numbers=numbers)
    one.save(folder / "classifier", {})
    out = folder / "relevance.zarr"
    inputs = Inputs(items.path, folder / "classifier")
    about = {"corner": list(CORNER), "space": [2, 3, 3], "k": 2, "classes": list(one.classes)}
    explained = Target.parse(target)
    predictions = one.value(explained, one.outputs(X[:, None, 1:3]))
    create_relevance(
        out,
        items.names,
        [target],
        np.full((6, 1), one.class_number(explained.label)),
        predictions[:, None],
        {"k": 2},
        {**about, "inputs": inputs.relative_to(out)},
    )
    return VolumeMaps(out)


def outputs_of(one: LinearClassifier, number: int) -> np.ndarray:
    return one.outputs(X[number : number + 1, None, 1:3])[0]


def test_the_probability_of_the_explained_class_is_stated(tmp_path: Path) -> None:
    one = classifier(("control", "patient"), True)
    found = maps(tmp_path, one, "probability:patient")
    p = [expit(outputs_of(one, n)[0]) for n in range(6)]
    assert found.prediction("item-3") == pytest.approx(p[3])
    assert found.label("item-3") == f"item-3 (patient)\np(patient) = {p[3]:.2f}"
    assert subject_of([found], None) == f"item-{max((1, 3, 5), key=p.__getitem__)}"
    assert found.scale_label == "relevance: weight of evidence [bits]"
    assert np.array_equal(found.weights()[1:3], WEIGHTS[0, 0].astype(np.float32))


def test_the_logit_of_the_explained_class_is_stated(tmp_path: Path) -> None:
    one = classifier(("control", "patient"), True)
    found = maps(tmp_path, one, "logit:control")
    logits = [-outputs_of(one, n)[0] for n in range(6)]
    assert found.label("item-3") == f"item-3 (patient)\nlogit(control) = {logits[3]:.1f}"
    assert subject_of([found], None) == f"item-{max((0, 2, 4), key=logits.__getitem__)}"
    assert found.scale_label == "relevance: difference of log-odds"


def test_the_channel_that_is_shown_is_named(tmp_path: Path) -> None:
    one = classifier(("control", "patient"), True)
    found = maps(tmp_path, one, "logit:control")
    # Of two channels, the second is another one.
    both = np.stack([X, X + 9], axis=1)
    write_store(
        tmp_path / "both.zarr", both, affine=np.eye(4), classes=one.classes,
        numbers=[n % 2 for n in range(6)], channels=("gm", "wm"),
    )  # fmt: skip
    shutil.rmtree(tmp_path / "data.zarr")
    (tmp_path / "both.zarr").rename(tmp_path / "data.zarr")
    label = found.label("item-3").splitlines()
    found = VolumeMaps(found.path)
    assert np.array_equal(found.volume("item-3"), X[3])
    assert found.label("item-3").splitlines() == ["item-3 (patient, gm)", *label[1:]]


def test_logits_of_more_classes_are_no_log_odds(tmp_path: Path) -> None:
    one = classifier(("a", "b", "c"), True)
    found = maps(tmp_path, one, "logit:b")
    logits = [outputs_of(one, n)[1] for n in range(6)]
    assert found.label("item-2") == f"item-2 (c)\nlogit(b) = {logits[2]:.1f}"
    assert subject_of([found], None) == f"item-{max((1, 4), key=logits.__getitem__)}"
    assert found.scale_label == "relevance: difference of logits"
    assert np.array_equal(found.weights()[1:3], WEIGHTS[1, 0].astype(np.float32))


@pytest.mark.parametrize(("target", "sign"), [("value:patient", 1), ("value:control", -1)])
def test_decision_values_are_those_of_the_explained_class(
    target: str, sign: int, tmp_path: Path
) -> None:
    one = classifier(("control", "patient"), False)
    found = maps(tmp_path, one, target)
    value, label = sign * outputs_of(one, 1)[0], target.removeprefix("value:")
    assert found.label("item-1") == f"item-1 (patient)\ndecision value, {label}: {value:.3g}"
    assert found.scale_label == f"relevance: difference of decision value, {label}"


def test_values_that_are_predicted_have_their_name(tmp_path: Path) -> None:
    one = classifier(("age",), False)
    found = maps(tmp_path, one, "value:age")
    values = [outputs_of(one, n)[0] for n in range(6)]
    assert found.label("item-2") == f"item-2\npredicted age: {values[2]:.3g}"
    assert found.scale_label == "relevance: difference of age"
    assert subject_of([found], None) == f"item-{int(np.argmax(values))}"


@pytest.mark.parametrize(
    ("classes", "target", "units"),
    [
        (("control", "patient"), "probability:patient", "bits"),
        (("control", "patient"), "logit:control", "logits"),
        # That of the column, which nothing states.
        (("age",), "value:age", None),
    ],
)
def test_units_of_relevance_are_stored_if_they_are_known(
    classes: tuple[str, ...], target: str, units: str | None, tmp_path: Path
) -> None:
    found = maps(tmp_path, classifier(classes, len(classes) > 1), target)
    for name in ("relevance", "stderr"):
        assert found.dataset[name].attrs.get("units") == units
