"""Which targets of which items are explained, and what class each target is for an item."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.evaluation.predictions import read_predictions
from preddiff.methods.base import TargetSettings
from preddiff.methods.selection import chosen_targets, classes_of, target_classes
from preddiff.targets import Target

TABLE = "item\tclass\tname\trank\ttop1\ttop1_name\n007\t3\t007\t2\t5\tcat\nb.png\t-1\t\t\t0\tdog\n"


def write(path: Path, text: str = TABLE) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def linear() -> LinearClassifier:
    return LinearClassifier(np.ones((1, 2, 2, 2)), 0.0, ("control", "patient"), 9, (0, 0, 0))


def test_linear_classifiers_are_explained_for_their_second_class(linear: LinearClassifier) -> None:
    assert chosen_targets(TargetSettings(), linear) == [Target("probability", "patient")]
    named = TargetSettings(targets=["logit:control", "probability:patient"])
    targets = chosen_targets(named, linear)
    assert target_classes(targets, ["a", "b"], linear, None).tolist() == [[0, 1], [0, 1]]


def test_a_class_that_a_linear_classifier_does_not_have_is_named(linear: LinearClassifier) -> None:
    with pytest.raises(InputError, match="there is no class 'healthy'"):
        target_classes([Target("logit", "healthy")], ["a"], linear, None)


def test_layers_of_a_network_that_predicts_a_value_have_no_class() -> None:
    module = nn.Sequential(
        nn.Conv3d(1, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 1)
    )
    standardisation = Standardisation((0.0,), (1.0,), 3)
    network = Network(
        prepared(module), {}, ("age",), 9, (4, 4, 4), standardisation, has_probabilities=False
    )
    targets = chosen_targets(TargetSettings(targets=["value:age", "layer:0"]), network)
    assert [str(target) for target in targets] == ["value:age", "map:0:0", "map:0:1"]
    assert target_classes(targets, ["a", "b"], network, None).tolist() == [[0, -1, -1]] * 2


def classes(target: str, items: list[str], predictions: pd.DataFrame | None) -> list[int]:
    return classes_of(Target.parse(target), items, {"cat": 5, "dog": 0}.__getitem__, predictions)


def test_classes_by_target(tmp_path: Path) -> None:
    table = read_predictions(write(tmp_path / "table.tsv"))
    items = ["b.png", "007", "b.png"]
    assert classes("map:conv:1", items, None) == [-1, -1, -1]
    assert classes("logit:cat", items, None) == [5, 5, 5]
    assert classes("logit:top-1", items, table) == [0, 5, 0]
    assert classes("probability:true", ["007"], table) == [3]


@pytest.mark.parametrize(
    ("target", "items", "message"),
    [
        ("probability:true", ["b.png"], "the true class of item 'b.png' is unknown"),
        ("probability:true", ["007", "c.png"], "no item 'c.png'"),
        ("logit:top-2", ["007"], "only the top 1 classes are in the table"),
    ],
)
def test_classes_that_are_not_known(tmp_path: Path, target, items, message) -> None:
    table = read_predictions(write(tmp_path / "table.tsv"))
    with pytest.raises(InputError, match=f"target '{target}': .*{message}"):
        classes(target, items, table)


def test_true_and_top_classes_need_predictions() -> None:
    with pytest.raises(InputError, match=r"needs the table of predictions \(--predictions\)"):
        classes("logit:top-1", ["007"], None)
