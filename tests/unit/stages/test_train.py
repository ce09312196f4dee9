"""Stage train: files of every kind, what they are trained on, and what is refused."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.linear_training import TrainingSet, fit
from preddiff.classifiers.stored import load_classifier
from preddiff.cli import main
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.stages.train import train
from tests.unit.datasets.stores import write_store

SHAPE = (5, 4, 3)
ITEMS = 24
CLASSES = {2: ["control", "patient"], 3: ["a", "b", "c"]}


def store(path: Path, classes: int = 2, **settings: Any) -> Items:
    generator = np.random.default_rng(classes)
    numbers = np.arange(ITEMS) % classes if classes else np.full(ITEMS, -1)
    x = generator.normal(size=(ITEMS, *SHAPE))
    # Each class has a slice of its own.
    x[np.arange(ITEMS), 1 + numbers] += 1.5
    age = 50 + 5 * numbers + generator.normal(size=ITEMS)
    sex = (np.arange(ITEMS) // 2 % 2).astype(float)
    return write_store(
        path,
        x.astype(np.float32),
        affine=np.diag([2.0, 2, 2, 1]),
        classes=CLASSES.get(classes, []),
        numbers=numbers.tolist(),
        value=("age", age),
        nuisance=(["age", "sex=m"], np.stack([age, sex], axis=1)),
        levels={"sex": ["f", "m"]},
        **settings,
    )


def settings(kind: str, **more: Any) -> Any:
    return CLASSIFIERS[kind](kind=kind, dataset="data", slices=(1, 3), folds=3, **more)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "svm"])
@pytest.mark.parametrize("classes", [2, 3])
def test_classifiers_are_stored_with_their_scores(kind: str, classes: int, tmp_path: Path) -> None:
    items = store(tmp_path / "data.zarr", classes)
    train(items.path, settings(kind), 0, tmp_path / "out")
    found = LinearClassifier.load(tmp_path / "out")
    outputs = classes if classes > 2 else 1
    assert found.classes == items.classes and found.training_size == ITEMS
    assert found.maps.shape == (outputs, 1, 3, 4, 3) and found.corner == (1, 0, 0)
    assert found.has_probabilities == CLASSIFIERS[kind](kind=kind, dataset="data").has_probabilities
    x = items.read(range(ITEMS), found.slab)
    rows = TrainingSet(x.reshape(ITEMS, -1), items.class_numbers, np.empty((ITEMS, 0)))
    assert found.maps.reshape(outputs, -1) == pytest.approx(fit(settings(kind), rows, 0).weights)
    scores = json.loads((tmp_path / "out/cv.json").read_text())
    table = pd.read_csv(tmp_path / "out/cv.tsv", sep="\t")
    assert scores["classes"] == list(items.classes) and scores["items"] == len(table) == ITEMS
    assert np.trace(scores["confusion"]) == table["correct"].sum()
    assert scores["accuracy_mean"] > 1.2 / classes
    volume = nib.load(tmp_path / "out/weights.nii.gz").get_fdata()
    assert volume.shape == (SHAPE if outputs == 1 else (*SHAPE, outputs))
    weights = found.maps[:, 0].astype(np.float32)
    assert np.array_equal(np.moveaxis(volume.reshape(*SHAPE, outputs), -1, 0)[:, 1:4], weights)


def test_columns_of_held_out_outputs_are_named(tmp_path: Path) -> None:
    tables = {}
    for kind in ("logistic", "svm"):
        for classes in (2, 3):
            items = store(tmp_path / f"{classes}-{kind}.zarr", classes)
            train(items.path, settings(kind), 0, tmp_path / "out")
            tables[kind, classes] = list(pd.read_csv(tmp_path / "out/cv.tsv", sep="\t"))
    first, last = ["item", "group", "fold"], ["correct"]
    assert tables["logistic", 2] == [*first, "probability", *last]
    assert tables["svm", 2] == [*first, "value", *last]
    for kind, output in (("logistic", "probability"), ("svm", "value")):
        columns = [f"{output}:{name}" for name in "abc"]
        assert tables[kind, 3] == [*first, "predicted", *columns, *last]


@pytest.mark.parametrize("classes", [0, 2])
def test_a_regression_needs_values_and_no_classes(classes: int, tmp_path: Path) -> None:
    items = store(tmp_path / "data.zarr", classes)
    train(items.path, settings("regression"), 0, tmp_path / "out")
    found = LinearClassifier.load(tmp_path / "out")
    assert found.classes == ("age",) and not found.has_probabilities
    scores = json.loads((tmp_path / "out/cv.json").read_text())
    table = pd.read_csv(tmp_path / "out/cv.tsv", sep="\t")
    assert scores["value"] == "age"
    assert list(table) == ["item", "fold", "value", "prediction", "error"]
    assert table["value"].to_numpy() == pytest.approx(items.values)
    assert np.abs(table["error"]).mean() == pytest.approx(scores["mean_absolute_error"])


def test_nuisance_variables_are_stored_with_the_classifier(tmp_path: Path) -> None:
    items = store(tmp_path / "data.zarr", training=[n < 20 for n in range(ITEMS)])
    train(items.path, settings("svm", regress_out=["sex", "age"]), 0, tmp_path / "out")
    found = LinearClassifier.load(tmp_path / "out").for_items(items)
    assert found.nuisance is not None and found.nuisance.names == ("sex=m", "age")
    assert found.nuisance.levels == {"sex": ("f", "m")}
    # The same as a classifier of residuals, of items that it was not trained on too.
    x = items.read(range(ITEMS), found.slab).reshape(ITEMS, -1).astype(float)
    design = np.column_stack([np.ones(ITEMS), items.nuisance])
    residuals = x - design @ np.linalg.lstsq(design[:20], x[:20], rcond=None)[0]
    rows = TrainingSet(residuals[:20], items.class_numbers[:20], np.empty((20, 0)))
    plain = fit(settings("svm"), rows, 0)
    expected = residuals @ plain.weights.T + plain.intercepts
    outputs = found.outputs(items.read(range(ITEMS), found.slab), items.names)
    assert outputs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["logistic", "svm", "regression"])
def test_models_of_folds_say_what_the_table_says(kind: str, tmp_path: Path) -> None:
    items = store(tmp_path / "data.zarr", training=[n < 20 for n in range(ITEMS)])
    train(items.path, settings(kind, regress_out=["sex"]), 0, tmp_path / "out")
    found = load_classifier(tmp_path / "out", items, by_fold=True)
    assert isinstance(found, LinearClassifier)
    table = pd.read_csv(tmp_path / "out/cv.tsv", sep="\t")
    outputs = found.outputs(items.read(range(ITEMS), found.slab), items.names)[:, 0]
    column = {"logistic": "probability", "svm": "value", "regression": "prediction"}[kind]
    said = expit(outputs) if kind == "logistic" else outputs
    assert said[:20] == pytest.approx(table[column].to_numpy())
    # Those that were not trained on, by the model of all.
    of_all = load_classifier(tmp_path / "out", items)
    assert isinstance(of_all, LinearClassifier)
    x = items.read(range(20, ITEMS), found.slab)
    assert outputs[20:] == pytest.approx(of_all.outputs(x, items.names[20:])[:, 0])
    assert found.model_of("item-0").training_size in (13, 14)


def test_several_tissues_are_channels(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(12):
        group = CLASSES[2][number % 2]
        row = {"participant_id": f"s{number}", "group": group}
        for tissue in ("gm", "wm"):
            values = generator.normal(size=SHAPE) + (number % 2) * (tissue == "wm")
            row[tissue] = f"{number}-{tissue}.nii"
            image = nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2, 2, 1]))
            nib.save(image, tmp_path / row[tissue])
        rows.append(row)
    pd.DataFrame(rows).to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    data, out = tmp_path / "data.zarr", tmp_path / "out"
    main(
        [
            "prepare",
            str(tmp_path / "table.tsv"),
            "--file",
            "gm",
            "wm",
            "--standardise",
            "none",
            "--out",
            str(data),
        ]
    )
    train(data, settings("svm"), 0, out)
    items, found = Items(data), LinearClassifier.load(out)
    assert found.maps.shape == (1, 2, 3, 4, 3) and found.channels == 2
    outputs = found.outputs(items.read(range(12), found.slab))[:, 0]
    assert ((outputs > 0) == (items.class_numbers == 1)).all()
    volume = nib.load(out / "weights.nii.gz").get_fdata()
    assert np.array_equal(volume[1:4], np.moveaxis(found.maps[0], 0, -1).astype(np.float32))
    store = tmp_path / "e.zarr"
    given = ["--kind", "grey", "--k", "2", "--items", "2", "--out", str(store)]
    main(["open", "--data", str(data), "--classifier", str(out), *given])
    main(["explain", str(store)])
    main(["relevance", str(store), "--out", str(tmp_path / "relevance.zarr")])
    figure = ["--kind", "weights", "--out", str(tmp_path / "figure.png")]
    main(["figure", str(tmp_path / "relevance.zarr"), *figure])
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_two_classes_need_no_kind_on_the_command_line(tmp_path: Path) -> None:
    items = store(tmp_path / "data.zarr")
    common = ["train", "--data", str(items.path), "--slices", "1", "3", "--folds", "3"]
    main([*common, "--out", str(tmp_path / "one")])
    main([*common, "--kind", "logistic", "--C", "1", "--out", str(tmp_path / "other")])
    one, other = (LinearClassifier.load(tmp_path / name) for name in ("one", "other"))
    assert one.digest == other.digest and one.has_probabilities


@pytest.mark.parametrize(
    ("kind", "classes", "more", "message"),
    [
        ("svm", 0, {}, "no classes: name their column as the dataset's `group`"),
        ("logistic", 2, {"regress_out": ["site"]}, "no nuisance variable 'site'"),
        ("ridge", 3, {"folds": 9}, "9 folds need at least 9 subjects of each class"),
        ("regression", 2, {"folds": 25}, "24 subjects have a 'age': set .* `folds` to 24"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    kind: str, classes: int, more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    items = store(tmp_path / "data.zarr", classes)
    chosen = settings(kind).model_copy(update=more)
    with pytest.raises(InputError, match=message):
        train(items.path, chosen, 0, tmp_path / "out")


def test_a_regression_without_values_is_refused(tmp_path: Path) -> None:
    x = np.ones((4, *SHAPE), dtype=np.float32)
    items = write_store(tmp_path / "data.zarr", x, affine=np.eye(4))
    with pytest.raises(InputError, match="no number that could be predicted: name its column"):
        train(items.path, settings("regression"), 0, tmp_path / "out")
