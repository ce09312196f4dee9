"""Localisation of known sites, against counting pairs and walking down the ranking."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from preddiff.errors import InputError
from preddiff.evaluation.localisation import compare_localisation, localisation, score_map
from tests.unit.evaluation.test_paired import by_trying_every_sign

SPACE = (3, 4)
# Few values, so that ties are common.
SCORES = arrays(np.float64, (1, *SPACE), elements=st.integers(-4, 4).map(float))
MASKS = arrays(np.bool_, SPACE)


def by_pairs(scores: np.ndarray, truth: np.ndarray) -> float:
    """Share of (true, other) pairs where the true voxel has the higher score; ties count half."""
    pairs = list(product(scores[truth], scores[~truth]))
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def by_ranking(scores: np.ndarray, truth: np.ndarray) -> float:
    """Sum over thresholds, from the highest, of precision times the recall gained there."""
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [bool(t) for s, t in zip(scores, truth, strict=True) if s >= threshold]
        recall = sum(found) / truth.sum()
        area += sum(found) / len(found) * (recall - recall_before)
        recall_before = recall
    return area


def solvable(truth: np.ndarray, mask: np.ndarray) -> bool:
    return bool(truth[mask].any() and not truth[mask].all())


@settings(max_examples=150, deadline=None)
@given(SCORES, MASKS, MASKS)
def test_measures_by_their_definitions(
    scores: np.ndarray, truth: np.ndarray, mask: np.ndarray
) -> None:
    assume(solvable(truth, mask))
    row = localisation(scores, truth[None], mask).loc[0]
    assert row["roc_auc"] == pytest.approx(by_pairs(scores[0][mask], truth[mask]))
    assert row["average_precision"] == pytest.approx(by_ranking(scores[0][mask], truth[mask]))
    assert row["prevalence"] == pytest.approx((truth & mask).sum() / mask.sum())


@settings(max_examples=50, deadline=None)
@given(SCORES, MASKS, MASKS)
def test_only_the_order_counts(scores: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
    assume(solvable(truth, mask))
    plain = localisation(scores, truth[None], mask)
    pd.testing.assert_frame_equal(plain, localisation(np.exp(scores), truth[None], mask))
    negated = localisation(-scores, truth[None], mask)
    assert negated.loc[0, "roc_auc"] == pytest.approx(1 - plain.loc[0, "roc_auc"])


@given(MASKS, MASKS)
def test_perfect_and_constant_maps(truth: np.ndarray, mask: np.ndarray) -> None:
    assume(solvable(truth, mask))
    perfect = localisation(truth[None].astype(np.float32), truth[None], mask).loc[0]
    assert perfect["roc_auc"] == perfect["average_precision"] == 1
    constant = localisation(np.zeros((1, *SPACE)), truth[None], mask).loc[0]
    assert constant["roc_auc"] == 0.5
    assert constant["average_precision"] == pytest.approx(constant["prevalence"])


def test_items_stay_apart_and_those_without_a_site_are_nan() -> None:
    truth = np.zeros((4, 2, 2, 2), dtype=bool)
    mask = np.ones((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = False
    truth[1, 0, 0, 0] = True  # outside
    truth[2, 1, 1, 1] = True
    truth[3] = True
    scores = np.zeros(truth.shape)
    scores[2, 1, 1, 1] = 1
    table = localisation(scores, truth, mask)

    assert table.index.name == "item" and list(table.index) == [0, 1, 2, 3]
    for measure in ("roc_auc", "average_precision"):
        np.testing.assert_array_equal(table[measure], [np.nan, np.nan, 1, np.nan])
    np.testing.assert_allclose(table["prevalence"], [0, 0, 1 / 7, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_incomplete_map_is_an_error_only_inside_the_mask(value: float) -> None:
    truth = np.tile([True, False, False], (3, 1))
    mask = np.array([True, True, False])
    scores = np.ones((3, 3))
    scores[:, 2] = value
    assert localisation(scores, truth, mask)["roc_auc"].eq(0.5).all()
    scores[1, 0] = value
    with pytest.raises(InputError, match="item 1: 1 of 2 scores in the mask are NaN or infinite"):
        localisation(scores, truth, mask)


def test_an_incomplete_map_is_named_by_its_item() -> None:
    truth = {"a": np.array([True, False]), "b": np.array([True, False])}
    maps = np.array([[0, 1], [0, np.nan]])
    with pytest.raises(InputError, match="item b: 1 of 2 scores"):
        score_map("ours", ["a", "b"], maps, truth, np.ones(2, dtype=bool))


def test_wrong_input_is_an_error() -> None:
    scores, truth, mask = np.zeros((2, 3)), np.zeros((2, 3), dtype=bool), np.ones(3, dtype=bool)
    with pytest.raises(InputError, match="same shape"):
        localisation(scores[:1], truth, mask)
    with pytest.raises(InputError, match="shape of space"):
        localisation(scores, truth, mask[:2])
    with pytest.raises(InputError, match="boolean"):
        localisation(scores, truth.astype(int), mask)
    with pytest.raises(InputError, match="mask is empty"):
        localisation(scores, truth, ~mask)


def test_maps_are_scored_by_magnitude_against_the_truth_of_their_item() -> None:
    mask = np.ones(4, dtype=bool)
    truth = {"a": np.array([True, False, False, False]), "b": np.array([False, False, True, True])}
    maps = np.array([[0, 0, 3, -4], [-9, 1, 0, 2]], dtype=np.float32)
    table = score_map("ours", ["b", "a"], maps, truth, mask)
    assert list(table) == ["map", "item", "roc_auc", "average_precision", "prevalence"]
    assert table["map"].eq("ours").all() and list(table["item"]) == ["b", "a"]
    assert list(table["roc_auc"]) == [1, 1] and list(table["prevalence"]) == [0.5, 0.25]


def long_table(**maps: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"map": name, "item": item, "roc_auc": value, "average_precision": value / 2,
             "prevalence": item / 100}
            for name, values in maps.items()
            for item, value in enumerate(values)
        ]
    )  # fmt: skip


def test_comparison_with_the_reference() -> None:
    nan = float("nan")
    pda = [0.90, 0.80, 0.95, 0.70, 0.85, 0.60, nan]
    weights = [0.80, 0.82, 0.80, 0.65, 0.78, 0.57, nan]
    rows = compare_localisation(long_table(weights=weights, pda=pda), "weights")
    assert list(rows["map"]) == ["weights", "weights", "pda", "pda"]
    assert list(rows["measure"]) == ["roc_auc", "average_precision"] * 2

    rows = rows.set_index(["map", "measure"])
    auc = rows.loc[("pda", "roc_auc")]
    assert auc["n"] == auc["pairs"] == 6
    assert auc["mean"] == pytest.approx(0.8)
    assert auc["standard_deviation"] == pytest.approx(np.sqrt(0.085 / 5))
    assert auc["chance"] == 0.5
    assert auc["share_better"] == pytest.approx(5 / 6)
    differences = [a - b for a, b in zip(pda[:6], weights[:6], strict=True)]
    assert auc["p_value"] == pytest.approx(by_trying_every_sign(differences))

    precision = rows.loc[("pda", "average_precision")]
    assert precision["mean"] == pytest.approx(0.4)
    assert precision["chance"] == pytest.approx(0.025)
    assert rows.loc["weights", ["share_better", "p_value"]].isna().all().all()


def test_items_are_paired_by_name_and_ties_are_not_better() -> None:
    table = long_table(a=[0.5, 0.6, 0.7], b=[0.5, 0.6, 0.7], c=[0.4, float("nan"), 0.8])
    rows = compare_localisation(table.sample(frac=1, random_state=1), "a")
    rows = rows[rows["measure"] == "roc_auc"].set_index("map")
    assert rows.loc["b", "share_better"] == 0 and rows.loc["b", "p_value"] == 1
    assert rows.loc["c", "pairs"] == 2 and rows.loc["c", "share_better"] == 0.5


def test_localisation_feeds_the_comparison() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((9, 5, 5)) < 0.2
    mask = np.ones((5, 5), dtype=bool)
    noise = rng.standard_normal(truth.shape)
    maps = {"noise": noise, "signal": noise + 2 * truth}
    frames = {name: localisation(scores, truth, mask) for name, scores in maps.items()}
    rows = compare_localisation(pd.concat(frames, names=["map"]).reset_index(), "noise")
    signal = rows[rows["map"] == "signal"]
    assert (signal["share_better"] == 1).all()
    assert signal["p_value"].tolist() == pytest.approx([2 / 2**9] * 2)


def test_wrong_table_is_an_error() -> None:
    table = long_table(a=[0.5], b=[0.6])
    with pytest.raises(InputError, match=r"no map 'c' .*a, b"):
        compare_localisation(table, "c")
    with pytest.raises(InputError, match="map 'b' has item 0 twice"):
        compare_localisation(pd.concat([table, table[1:]]), "a")
