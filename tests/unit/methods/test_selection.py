"""What is explained of items: the classes that targets are of."""

import pandas as pd
import pytest

from preddiff.errors import InputError
from preddiff.methods.selection import classes_of
from preddiff.targets import Target


def predictions() -> pd.DataFrame:
    return pd.DataFrame({"class": [3, -1], "top1": [5, 0]}, index=["007", "b.png"])


def classes(target: str, items: list[str], predictions: pd.DataFrame | None) -> list[int]:
    return classes_of(Target.parse(target), items, {"cat": 5, "dog": 0}.__getitem__, predictions)


def test_classes_by_target() -> None:
    table = predictions()
    items = ["b.png", "007", "b.png"]
    assert classes("map:conv:1", items, None) == [-1, -1, -1]
    assert classes("logit:cat", items, None) == [5, 5, 5]
    assert classes("logit:top-1", items, table) == [0, 5, 0]
    assert classes("probability:true", ["007"], table) == [3]


@pytest.mark.parametrize(
    ("target", "items", "message"),
    [
        ("probability:true", ["b.png"], "the true class of item 'b.png' is not known"),
        ("probability:true", ["007", "c.png"], "no item 'c.png'"),
        ("logit:top-2", ["007"], "only the top 1 classes are known"),
    ],
)
def test_classes_that_are_not_known(target, items, message) -> None:
    table = predictions()
    with pytest.raises(InputError, match=f"target '{target}': .*{message}"):
        classes(target, items, table)


def test_true_and_top_classes_need_predictions() -> None:
    with pytest.raises(InputError, match=r"needs the table of predictions \(--predictions\)"):
        classes("logit:top-1", ["007"], None)
