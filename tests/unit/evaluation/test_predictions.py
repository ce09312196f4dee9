"""Tables of predictions, what they hold, and true classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.errors import InputError
from preddiff.evaluation.predictions import (
    accuracy,
    agreement,
    prediction_rows,
    read_predictions,
    true_classes,
    value_rows,
)

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


def test_rows_rank_classes_by_probability() -> None:
    names = [f"class {n}" for n in range(12)]
    p = np.full((2, 12), 0.05)
    p[0, 7], p[0, 3] = 0.3, 0.15
    rows = prediction_rows(["a", "b"], np.array([3, -1]), p, names)
    first = rows[0]
    assert (first["item"], first["class"], first["name"]) == ("a", 3, "class 3")
    assert (first["rank"], first["probability"]) == (2, 0.15)
    # Of equal probability, the first classes come first; ten are listed.
    assert [first[f"top{n}"] for n in range(1, 11)] == [7, 3, 0, 1, 2, 4, 5, 6, 8, 9]
    assert first["top1_name"] == "class 7" and first["top1_probability"] == 0.3
    assert "top11" not in first
    second = rows[1]
    assert (second["class"], second["name"]) == (-1, "")
    assert (second["rank"], second["probability"]) == ("", "")
    assert list(first) == list(second)


def test_few_classes_have_fewer_ranks() -> None:
    (row,) = prediction_rows(["a"], np.array([1]), np.array([[0.2, 0.5, 0.3]]), "xyz")
    assert [key for key in row if key.startswith("top") and "_" not in key] == [
        "top1",
        "top2",
        "top3",
    ]


def table_of(classes: list[int], ranks: list[int]) -> pd.DataFrame:
    known = [rank if number >= 0 else "" for number, rank in zip(classes, ranks, strict=True)]
    return pd.DataFrame({"class": classes, "rank": known})


def test_accuracy_counts_items_of_known_class() -> None:
    table = table_of([0, 1, -1, 2, 0, 1], [1, 6, 1, 5, 1, 2])
    training = np.array([True, False, False, True, False, True])
    assert accuracy(table, training) == {
        "items": 6,
        "items_of_known_class": 5,
        "top1": 0.4,
        "top5": 0.8,
        "top1_of_items_not_for_training": 0.5,
    }
    assert "top1_of_items_not_for_training" not in accuracy(table, np.ones(6, dtype=bool))
    assert "top1_of_items_not_for_training" not in accuracy(table, np.zeros(6, dtype=bool))
    unknown = table_of([-1, -1], [1, 1])
    assert accuracy(unknown, training[:2]) == {"items": 2, "items_of_known_class": 0}


def truth(own: Sequence[str], classes: Sequence[str], numbers: list[int]) -> list[int]:
    items = [f"item-{n}" for n in range(len(numbers))]
    labels = [own[n] if n >= 0 else "" for n in numbers]
    return list(true_classes(items, labels, np.array(numbers), own, classes))


def labelled(labels: list[str], classes: Sequence[str]) -> list[int]:
    """True classes of items whose dataset does not know all classes."""
    numbers = np.array([int(label) if label.isdecimal() else -1 for label in labels])
    items = [f"item-{n}" for n in range(len(labels))]
    return list(true_classes(items, labels, numbers, (), classes))


def test_classes_of_the_same_names_are_matched_by_name() -> None:
    assert truth(("b", "c", "a"), ("a", "b", "c"), [0, 1, 2, -1, 0]) == [1, 2, 0, -1, 1]


@pytest.mark.parametrize(
    ("own", "classes", "expected"),
    [
        # Names that tell apart what others would not.
        (("Crane", "crane"), ("crane", "Crane"), [1, 0]),
        # Other spellings of the same names.
        (("tabby_cat", "Dog", "red  fox"), ("dog", "Red fox", "tabby cat"), [2, 0, 1]),
        (("STRASSE", "a"), ("a", "straße"), [1, 0]),
        # Names in the same order may stand for several classes, and be longer on one side.
        (("crane", "dog", "crane"), ("crane", "dog", "crane"), [0, 1, 2]),
        (("crane", "a_dog", "crane"), ("crane bird", "a dog", "crane"), [0, 1, 2]),
        (("tench, Tinca tinca", "goldfish"), ("tench", "goldfish"), [0, 1]),
        # Numbers on either side.
        (("0", "1", "2"), ("cat", "dog", "fox"), [0, 1, 2]),
        (("cat", "dog", "fox"), ("0", "1", "2"), [0, 1, 2]),
        (("2", "0", "1"), ("0", "1", "2"), [2, 0, 1]),
        # Folders go by the alphabet: 0, 1, 10, 11, 2, ...
        (
            sorted(map(str, range(12))),
            [f"class {n}" for n in range(12)],
            sorted(range(12), key=str),
        ),
        (("000", "001", "002"), ("cat", "dog", "fox"), [0, 1, 2]),
    ],
)
def test_classes_are_matched_by_their_names(own, classes, expected) -> None:
    assert truth(own, classes, list(range(len(own)))) == expected


@given(st.permutations(range(8)), st.permutations(range(8)), st.integers(0, 2**8 - 1))
def test_any_order_and_spelling_of_different_names(own, other, spelling) -> None:
    def spelt(number: int, differently: bool) -> str:
        name = f"the {chr(ord('a') + number)}"
        return name.upper().replace(" ", "_") if differently else name

    first = [spelt(n, bool(spelling >> n & 1)) for n in own]
    found = truth(first, [spelt(n, False) for n in other], list(range(8)))
    assert [other[number] for number in found] == own


@pytest.mark.parametrize(
    ("own", "classes", "message"),
    [
        (("cat", "dog"), ("Katze", "Hund"), "'cat', 'dog', and .* 'Katze', 'Hund'.* same table"),
        (("cat", "dog", "fox"), ("dog", "cat", "vixen"), "not have 'fox', and .* 'vixen'"),
        # One name begins with another, but of another class.
        (
            ("cat", "cat tabby", "dog"),
            ("cat tabby", "cat", "dog breed"),
            "not have 'dog', and .* 'dog breed'",
        ),
        # Several classes of a name, in another order: which is which?
        (("crane", "dog", "crane"), ("dog", "crane", "crane"), "'crane' is the name of several"),
        (("Crane", "crane", "dog"), ("dog", "crane", "Crane_"), "'Crane' is the name of several"),
        (("0", "1", "3"), ("cat", "dog", "fox"), "not have '0', '1', '3', and"),
        (("n01440764", "n01443537"), ("tench", "goldfish"), "WordNet ids"),
        (
            [f"x{n}" for n in range(9)],
            [f"y{n}" for n in range(9)],
            r"'x0', 'x1', 'x2', \.\.\. \(9 in all\), and .* 'y0'",
        ),
    ],
)
def test_classes_of_other_names_are_refused(own, classes, message) -> None:
    with pytest.raises(InputError, match=message):
        truth(own, classes, [0])


def test_fewer_classes_than_the_networks_are_refused() -> None:
    with pytest.raises(InputError, match="the dataset has 2 classes, the network 3"):
        truth(("a", "b"), ("a", "b", "c"), [0])


def test_labels_are_names_or_numbers_of_the_network() -> None:
    assert labelled(["dog", "", "0", "cat", "2"], ("cat", "dog", "0")) == [1, -1, 0, 0, 2]
    assert labelled(["tabby cat", "DOG"], ("dog", "tabby_cat", "x")) == [1, 0]
    with pytest.raises(InputError, match="item 'item-1': class 3 is beyond the network's 3"):
        labelled(["0", "3"], ("cat", "dog", "x"))
    with pytest.raises(InputError, match=r"item 'item-1': class 'dgo' is not among .* mean 'dog'"):
        labelled(["cat", "dgo"], ("cat", "dog", "x"))
    with pytest.raises(InputError, match="item 'item-0': class 'n01440764' is a WordNet id"):
        labelled(["n01440764"], ("cat", "dog", "x"))


def test_values_are_compared_with_the_true_ones() -> None:
    truth = np.array([20.0, 30.0, np.nan, 50.0, 41.0])
    predicted = np.array([22.0, 27.0, 33.0, 55.0, 40.0])
    training = np.array([True, True, True, False, False])
    rows = pd.DataFrame(value_rows(list("abcde"), truth, predicted))
    assert rows["error"].to_list() == [2.0, -3.0, "", 5.0, -1.0]
    found = agreement(truth, predicted, training)
    assert (found["items"], found["items_of_known_value"]) == (5, 4)
    assert found["mean_absolute_error"] == 11 / 4 and found["mean_error"] == 3 / 4
    known = np.isfinite(truth)
    assert found["r"] == pytest.approx(pd.Series(truth[known]).corr(pd.Series(predicted[known])))
    assert found["mean_absolute_error_of_items_not_for_training"] == 3


def test_nothing_is_said_of_unknown_values() -> None:
    nothing = np.full(3, np.nan)
    assert agreement(nothing, np.arange(3.0), np.ones(3, dtype=bool)) == {
        "items": 3,
        "items_of_known_value": 0,
    }
