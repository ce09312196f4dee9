"""Pairing of maps by item, against dictionaries, and its tests, against their definitions."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtr

from preddiff.errors import InputError
from preddiff.evaluation.paired import comparisons, mean_interval, signed_rank_p

VALUES = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 2)),
    st.one_of(st.floats(-5, 5), st.just(float("nan"))),
    min_size=1,
)


def rows_of(name: str, values: dict[tuple[str, int], float]) -> list[dict[str, object]]:
    return [{"map": name, "item": i, "class": c, "score": v} for (i, c), v in values.items()]


@given(VALUES, VALUES, st.randoms())
def test_rows_of_the_same_item_and_class_are_paired(ours, theirs, random) -> None:
    rows = rows_of("ours", ours) + rows_of("theirs", theirs)
    random.shuffle(rows)
    table = pd.DataFrame(rows)
    found = {one.map: one for one in comparisons(table, "theirs", ["score"])}
    assert list(found) == list(dict.fromkeys(row["map"] for row in rows))
    one = found["ours"]
    assert sorted(one.values) == sorted(v for v in ours.values() if v == v)
    differences = [ours[key] - theirs[key] for key in ours.keys() & theirs.keys()]
    assert sorted(one.differences) == sorted(d for d in differences if d == d)
    assert not one.is_reference and found["theirs"].is_reference
    assert not found["theirs"].differences.any()


def test_maps_without_classes_are_paired_by_item_and_measure() -> None:
    table = pd.DataFrame(
        {"map": ["b", "b", "a"], "item": ["x", "y", "y"], "p": [1, 2, 5], "q": [9, 7, 7.5]}
    )
    found = [(one.map, one.measure, list(one.differences)) for one in comparisons(table, "b", "pq")]
    assert found == [("b", "p", [0, 0]), ("b", "q", [0, 0]), ("a", "p", [3]), ("a", "q", [0.5])]


def test_bad_tables_are_refused() -> None:
    table = pd.DataFrame(rows_of("a", {("x", 0): 1.0, ("x", 1): 2.0}))
    with pytest.raises(InputError, match=r"no map 'b' to compare with; choose one of a"):
        next(comparisons(table, "b", ["score"]))
    with pytest.raises(InputError, match="map 'a' has item x twice"):
        next(comparisons(pd.concat([table, table[1:]]), "a", ["score"]))
    with pytest.raises(InputError, match="map 'a' has item x twice"):
        next(comparisons(table.drop(columns="class"), "a", ["score"]))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9).filter(lambda x: np.ptp(x) > 1e-3))
def test_the_interval_holds_95_percent_of_students_t(differences: list[float]) -> None:
    low, high = mean_interval(np.array(differences))
    n, mean = len(differences), sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    assert low + high == pytest.approx(2 * mean, abs=1e-9)
    t = (high - mean) / np.sqrt(variance / n)
    assert stdtr(n - 1, t) == pytest.approx(0.975)


def by_trying_every_sign(differences: list[float]) -> float:
    """Two-sided p-value of the signed-rank test (no ties, no zeros)."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    centre = ranks.sum() / 2
    observed = abs(ranks[np.array(differences) > 0].sum() - centre)
    signs = list(product([0, 1], repeat=len(ranks)))
    return sum(abs(np.dot(sign, ranks) - centre) >= observed for sign in signs) / len(signs)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8, unique=True), st.randoms())
def test_signed_ranks_by_trying_every_sign(sizes: list[int], random) -> None:
    differences = [float(size * random.choice((-1, 1))) for size in sizes]
    assert signed_rank_p(np.array(differences)) == pytest.approx(by_trying_every_sign(differences))


def test_nothing_to_compare_is_nan_and_no_difference_is_certain() -> None:
    assert np.isnan(mean_interval(np.array([]))).all()
    assert np.isnan(mean_interval(np.array([1.0]))).all()
    assert np.isnan(signed_rank_p(np.array([])))
    assert signed_rank_p(np.zeros(4)) == 1
