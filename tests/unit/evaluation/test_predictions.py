"""Tables of predictions, and the classes of targets that they tell."""

from pathlib import Path

import pandas as pd
import pytest

from preddiff.errors import InputError
from preddiff.evaluation.predictions import classes_of, read_predictions
from preddiff.targets import Target

TABLE = "item\tclass\tname\trank\ttop1\ttop1_name\n007\t3\t007\t2\t5\tcat\nb.png\t-1\t\t\t0\tdog\n"


def write(path: Path, text: str = TABLE) -> Path:
    path.write_text(text)
    return path


def test_names_stay_text_and_classes_are_numbers(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path / "table.tsv"))
    assert found.index.to_list() == ["007", "b.png"]
    assert found["name"].to_list() == ["007", ""]
    assert found["class"].to_list() == [3, -1] and found["top1"].to_list() == [5, 0]


@pytest.mark.parametrize(
    "text",
    [
        "file\tclass\na.png\t1\n",
        "item\tclass\na.png\tcat\n",
        "item\tclass\na.png\t1.5\n",
        "item\ttop1\na.png\t99999999999999999999\n",
        "item\tclass\na.png\t1\na.png\t2\n",
        "item\tclass\na.png\t1\n\nb.png\t1\n",
    ],
)
def test_other_tables_are_no_predictions(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "table.tsv", text)
    with pytest.raises(InputError, match=r"table\.tsv: not a table that preddiff predict wrote"):
        read_predictions(path)


def test_a_missing_table_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such table; run preddiff predict"):
        read_predictions(tmp_path / "table.tsv")
    with pytest.raises(InputError, match="it is empty"):
        read_predictions(write(tmp_path / "table.tsv", ""))


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
        ("probability:true", ["b.png"], "the true class of item 'b.png' is not known"),
        ("probability:true", ["007", "c.png"], "no item 'c.png'"),
        ("logit:top-2", ["007"], "only the top 10 classes are known"),
    ],
)
def test_classes_that_are_not_known(tmp_path: Path, target, items, message) -> None:
    table = read_predictions(write(tmp_path / "table.tsv"))
    with pytest.raises(InputError, match=f"target '{target}': .*{message}"):
        classes(target, items, table)


def test_true_and_top_classes_need_predictions() -> None:
    with pytest.raises(InputError, match=r"needs the table of predictions \(--predictions\)"):
        classes("logit:top-1", ["007"], None)
