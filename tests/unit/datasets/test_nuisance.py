"""Nuisance variables as the columns of a design, against pandas."""

import numpy as np
import pandas as pd
import pytest

from preddiff.datasets.nuisance import design
from preddiff.errors import InputError


def test_text_becomes_indicators_and_numbers_stay() -> None:
    rows = [("31", "F", "b"), ("45.5", "M", "a"), ("28", "M", "c"), ("61", "F", "a")]
    names, values = design(["age", "sex", "site"], rows)
    table = pd.DataFrame(rows, columns=["age", "sex", "site"]).astype({"age": float})
    expected = pd.get_dummies(table, drop_first=True, prefix_sep="=", dtype=float)
    assert names == list(expected.columns)
    assert np.array_equal(values, expected.to_numpy())


def test_one_text_among_numbers_makes_indicators() -> None:
    assert design(["site"], [("1",), ("2",), ("nan",)])[0] == ["site=2", "site=nan"]


def test_no_variables() -> None:
    assert design([], [(), ()])[1].shape == (2, 0)


def test_a_constant_variable_is_refused() -> None:
    with pytest.raises(InputError, match="'site' is the same for all items, 'x': remove it"):
        design(["age", "site"], [("1", "x"), ("2", "x")])
