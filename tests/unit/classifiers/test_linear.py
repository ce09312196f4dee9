"""Linear classifiers: outputs, targets, nuisance variables, files and digests."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.nuisance import Nuisance
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.methods.selection import item_digests
from preddiff.targets import Target
from tests.unit.datasets.stores import write_store

SHAPE = (1, 2, 3, 4)
CORNER = (1, 2, 3)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(5, *SHAPE)).astype(np.float32)
TWO = LinearClassifier(np.arange(24.0).reshape(SHAPE) / 7, 0.3, ("no", "yes"), 40, CORNER)
THREE = LinearClassifier(
    GENERATOR.normal(size=(3, *SHAPE)), np.array([0.1, -0.2, 0.3]), ("a", "b", "c"), 40, CORNER
)
DECISION = replace(TWO, has_probabilities=False)
AGE = replace(TWO, classes=("age",), has_probabilities=False)
LEVELS = {"sex": ("f", "m")}
NUISANCE = Nuisance(("sex", "age"), ("sex=m", "age"), np.array([[2.0, -0.5]]), LEVELS)
ADJUSTED = replace(TWO, nuisance=NUISANCE)


def targets(*texts: str) -> list[Target]:
    return [Target.parse(text) for text in texts]


def test_the_digest_of_two_classes_is_that_of_earlier_versions() -> None:
    # As version 0.1.0 has it, so that expectations of trained classifiers stay valid.
    assert TWO.digest == "090b25905248bb448f83da387e8667ef21ef1e04e3b39061e59173948b53f196"


def test_digests_tell_classifiers_apart() -> None:
    other = replace(NUISANCE, coefficients=np.array([[2.0, -0.4]]))
    all_of_them = [TWO, THREE, DECISION, ADJUSTED, replace(TWO, nuisance=other)]
    assert len({one.digest for one in all_of_them}) == len(all_of_them)


@pytest.mark.parametrize("one", [TWO, THREE, DECISION, AGE, ADJUSTED])
def test_files_keep_everything(one: LinearClassifier, tmp_path: Path) -> None:
    one.save(tmp_path, {})
    found = LinearClassifier.load(tmp_path)
    assert found.digest == one.digest and found.classes == one.classes
    assert np.array_equal(found.weights, one.weights)
    assert np.array_equal(found.intercepts, one.intercepts)
    assert (found.space, found.channels, found.corner) == ((2, 3, 4), 1, CORNER)
    assert found.has_probabilities == one.has_probabilities
    if one.nuisance is not None and found.nuisance is not None:
        assert found.nuisance.variables == one.nuisance.variables
        assert found.nuisance.levels == one.nuisance.levels


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    TWO.save(tmp_path, {})
    path = tmp_path / "classifier.json"
    about = json.loads(path.read_text())
    assert isinstance(about["intercept"], float)
    assert np.load(tmp_path / "weights.npy").shape == SHAPE
    del about["has_probabilities"]
    path.write_text(json.dumps(about))
    assert LinearClassifier.load(tmp_path).digest == TWO.digest


@pytest.mark.parametrize("key", ["names", "coefficients", "levels"])
def test_damaged_files_are_refused(key: str, tmp_path: Path) -> None:
    ADJUSTED.save(tmp_path, {})
    path = tmp_path / "classifier.json"
    about = json.loads(path.read_text())
    del about["nuisance"][key]
    path.write_text(json.dumps(about))
    with pytest.raises(InputError, match="not a trained classifier, or damaged"):
        LinearClassifier.load(tmp_path)


def test_two_classes_share_an_output() -> None:
    logit = X.reshape(5, -1).astype(float) @ TWO.weights.reshape(-1) + 0.3
    outputs = TWO.outputs(X)
    found = [TWO.value(t, outputs) for t in targets("logit:no", "probability:no", "logit:yes")]
    assert found[0] == pytest.approx(-logit) and found[2] == pytest.approx(logit)
    assert found[1] == pytest.approx(expit(-logit))
    assert TWO.probability(X) == pytest.approx(expit(logit))
    assert DECISION.value(Target("value", "no"), outputs) == pytest.approx(-logit)
    assert AGE.value(Target("value", "age"), outputs) == pytest.approx(logit)


def test_more_classes_have_outputs_of_their_own() -> None:
    logits = X.reshape(5, -1).astype(float) @ THREE.weights.reshape(3, -1).T + THREE.intercept
    outputs = THREE.outputs(X)
    assert outputs == pytest.approx(logits)
    expected = softmax(logits, axis=1)
    for number, name in enumerate("abc"):
        assert THREE.value(Target("logit", name), outputs) == pytest.approx(logits[:, number])
        found = THREE.value(Target("probability", name), outputs)
        assert found == pytest.approx(expected[:, number])


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (TWO, "there is no class 'old': the classes are no and yes"),
        (THREE, "the classes are a, b and c"),
        (AGE, "there is no output 'old': the only one is 'age'"),
    ],
)
def test_unknown_classes_are_named(one: LinearClassifier, message: str) -> None:
    with pytest.raises(InputError, match=message):
        one.class_number("old")


@pytest.mark.parametrize(
    ("one", "explained"),
    [
        (TWO, ("probability:no", "logit:yes")),
        (THREE, ("probability:a", "probability:c", "logit:b")),
        (AGE, ("value:age",)),
    ],
)
def test_differentiable_nodes_have_the_same_values(one: LinearClassifier, explained) -> None:
    chosen = targets(*explained)
    found = one.nodes(chosen, {})(torch.from_numpy(X), "item-0").numpy()
    expected = np.stack([one.value(t, one.outputs(X)) for t in chosen], axis=1)
    assert found == pytest.approx(expected, abs=1e-12)


# Nuisance variables


@pytest.fixture
def items(tmp_path: Path) -> Items:
    return write_store(
        tmp_path / "data.zarr",
        X[:, 0],
        affine=np.eye(4),
        nuisance=(["age", "sex=m"], np.array([[30.0 + n, n % 2] for n in range(5)])),
        levels=LEVELS,
    )


def test_nuisance_variables_of_an_item_add_to_its_outputs(items: Items) -> None:
    names = ["item-3", "item-0"]
    nuisance = Nuisance(("age", "sex"), ("age", "sex=m"), np.array([[-0.5, 2.0]]), LEVELS)
    one = replace(TWO, nuisance=nuisance).for_items(items)
    added = np.array([-0.5 * 33 + 2, -0.5 * 30])
    expected = TWO.outputs(X[[3, 0]])[:, 0] + added
    assert one.outputs(X[[3, 0]], names)[:, 0] == pytest.approx(expected)
    nodes = one.nodes(targets("logit:yes"), {})
    x = torch.from_numpy(X[[3, 0]])
    assert nodes.of_items(x, names)[:, 0].numpy() == pytest.approx(expected)
    assert nodes(x[:1], "item-3")[:, 0].numpy() == pytest.approx(expected[:1])


@pytest.mark.parametrize("two", [TWO, DECISION, AGE])
def test_the_classifier_of_an_item_needs_no_name(two: LinearClassifier, items: Items) -> None:
    one = replace(two, nuisance=NUISANCE)
    found = one.for_item(items, "item-3")
    expected = two.outputs(X) + 2.0 - 0.5 * 33
    assert found.outputs(X) == pytest.approx(expected)
    assert found.nuisance is None and np.array_equal(found.weights, two.weights)
    # Seen by a model of its own, which has not seen it.
    other = replace(one, intercept=7.0).for_items(items)
    by_fold = replace(one, models={"item-3": other})
    assert by_fold.for_item(items, "item-3").outputs(X) == pytest.approx(expected + 6.7)
    with pytest.raises(InputError, match="no item 'item-9'"):
        one.for_item(items, "item-9")


def test_digests_of_items_contain_what_is_added_for_them(items: Items) -> None:
    classes = np.zeros((5, 1), dtype=np.int64)
    plain = item_digests(items, items.names, classes, TWO.for_items(items))
    nuisance = Nuisance(("age",), ("age",), np.array([[-0.5]]))
    found = item_digests(
        items, items.names, classes, replace(TWO, nuisance=nuisance).for_items(items)
    )
    assert not {*plain} & {*found}


@pytest.mark.parametrize(
    ("variable", "levels", "message"),
    [
        ("scanner", {}, "no nuisance variable 'scanner': add it to the dataset's"),
        (
            "age",
            {"age": ("old", "young")},
            "'age' is a number, .* trained with text \\(old, young\\)",
        ),
        ("sex", {}, "'sex' is text \\(f, m\\), but .* trained with a number: explain a cohort"),
        (
            "sex",
            {"sex": ("d", "f", "m")},
            "'sex' is text \\(f, m\\), .* trained with text \\(d, f, m",
        ),
        # Another value that the indicators are counted from.
        (
            "sex",
            {"sex": ("d", "m")},
            "'sex' is text \\(f, m\\), but .* trained with text \\(d, m\\)",
        ),
    ],
)
def test_other_nuisance_variables_are_refused(items: Items, variable, levels, message) -> None:
    names = (f"{variable}=m",) if levels else (variable,)
    nuisance = Nuisance((variable,), names, np.zeros((1, len(names))), levels)
    with pytest.raises(InputError, match=message):
        replace(TWO, nuisance=nuisance).for_items(items)


def test_outputs_without_nuisance_variables_are_refused() -> None:
    with pytest.raises(InputError, match=r"depend on nuisance variables \(sex, age\)"):
        ADJUSTED.outputs(X)
