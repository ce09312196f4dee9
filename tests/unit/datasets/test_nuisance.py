"""Nuisance variables as the columns of a design, against pandas."""

import re

import numpy as np
import pandas as pd
import pytest

from preddiff.datasets.nuisance import Design, design
from preddiff.errors import InputError

ITEMS = [f"s{number}" for number in range(6)]


def coded(name: str, texts: list[str]) -> Design:
    return design([name], ITEMS[: len(texts)], [(text,) for text in texts])


def test_text_becomes_indicators_and_numbers_stay() -> None:
    rows = [
        ("31", "F", "b"),
        ("45.5", "M", "a"),
        ("28", "M", "c"),
        ("61", "F", "a"),
        ("-1e1", "F", "b"),
        ("44", "M", "b"),
    ]
    found = design(["age", "sex", "site"], ITEMS, rows)
    table = pd.DataFrame(rows, columns=["age", "sex", "site"]).astype({"age": float})
    expected = pd.get_dummies(table, drop_first=True, prefix_sep="=", dtype=float)
    assert found.columns == list(expected.columns)
    assert np.array_equal(found.values, expected.to_numpy())
    assert found.levels == {"sex": ["F", "M"], "site": ["a", "b", "c"]}


@pytest.mark.parametrize("text", [".", "-", "unknown", "null", "31,5", "inf", "4a"])
def test_one_text_among_numbers_names_its_subject(text: str) -> None:
    message = re.escape(f"subject 's2': '{text}' is no number, but the nuisance variable 'age'")
    with pytest.raises(InputError, match=message):
        coded("age", ["20", "31", text, "20", "52.5", "60"])


def test_decimal_commas_are_not_text() -> None:
    with pytest.raises(InputError, match=r"subject 's0': '31,5' is no number.* decimal point"):
        coded("age", ["31,5", "20,25", "31,5", "20,25"])


def test_some_numbers_among_text_are_text() -> None:
    assert coded("site", ["1", "a", "a", "1"]).columns == ["site=a"]


@pytest.mark.parametrize("count", [4, 6])
def test_text_that_tells_subjects_apart_is_refused(count: int) -> None:
    texts = [f"{number} years" for number in range(count)] + ["0 years"] * (6 - count)
    with pytest.raises(InputError, match=rf"'age' is text with {count} values for 6 subjects"):
        coded("age", texts)


def test_no_variables() -> None:
    assert design([], ITEMS[:2], [(), ()]).values.shape == (2, 0)


def test_a_constant_variable_is_refused() -> None:
    with pytest.raises(InputError, match="'site' is the same for all items, 'x': remove it"):
        design(["age", "site"], ITEMS[:2], [("1", "x"), ("2", "x")])
