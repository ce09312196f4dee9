"""Measures of explanations by a few features, against sums that are written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.errors import InputError
from preddiff.evaluation.concepts import (
    ALL,
    System,
    Truth,
    agreement,
    baseline,
    compare_systems,
    locality,
    mean_correlation,
    measure,
    reconstruction_error,
    score_error,
    significant_features,
)

RANDOM = np.random.default_rng(3)


def test_significant_features_of_the_paper() -> None:
    found = significant_features(np.array([5.0, 4.0, 1.0, -3.0]))
    assert found.tolist() == [True, True, False, False]
    assert significant_features(np.array([[-1.0, 0.0], [0.0, 2.0]])).tolist() == [
        [False, False],
        [False, True],
    ]


@given(st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=1, max_size=6))
def test_the_significant_set_is_the_smallest_one(values: list[float]) -> None:
    positive = [max(v, 0.0) for v in values]
    found = significant_features(np.array(values))
    kept = sum(p for p, f in zip(positive, found, strict=True) if f)
    assert kept >= 0.9 * sum(positive) - 1e-9
    # No smaller set has as much.
    fewer = int(found.sum()) - 1
    if fewer >= 0 and sum(positive) > 0:
        largest = sum(sorted(positive, reverse=True)[:fewer])
        assert largest < 0.9 * sum(positive) + 1e-9


def test_errors_of_scores() -> None:
    found = score_error(np.array([[1.0, 2], [3, 2]]), np.array([[1.0, 0], [1, 0]]))
    np.testing.assert_allclose(found, [math.sqrt(2), 2])
    with pytest.raises(InputError, match="same shape"):
        score_error(np.ones((3, 1)), np.ones((3, 1, 1)))


def test_agreement_when_scores_are_replaced() -> None:
    logits = np.array([[3.0, 1, 0], [0, 1, 2], [0, 5, 4]])
    assert agreement(logits, logits[:, [1]], [1]) == 1
    # The second item's class changes to 0, and the third's to 2.
    assert agreement(logits, np.array([[3.0, 1], [3, 0], [0, 0]]), [0, 1]) == pytest.approx(1 / 3)


def test_the_means_alone_reconstruct_with_an_error_of_one() -> None:
    z = RANDOM.random((9, 4))
    assert reconstruction_error(z, z) == 0
    assert reconstruction_error(np.broadcast_to(z.mean(0), z.shape), z) == pytest.approx(1)


def test_correlations_of_contributions() -> None:
    a = RANDOM.normal(size=(50, 3))
    wanted = np.abs(np.corrcoef(a.T)[[0, 0, 1], [1, 2, 2]]).mean()
    assert mean_correlation(a) == pytest.approx(wanted)
    # A constant has no correlation, in whatever precision it is.
    with_constant = np.column_stack([a[:, :2], np.full(50, 0.1)]).astype(np.float32)
    assert mean_correlation(with_constant) == pytest.approx(abs(np.corrcoef(a.T)[0, 1]), rel=1e-4)
    assert mean_correlation(np.column_stack([a[:, 0], -2 * a[:, 0]])) == pytest.approx(1)
    assert math.isnan(mean_correlation(np.ones((5, 2))))


def test_locality_is_the_normalised_entropy() -> None:
    mass = np.array([[[1.0, 0, 0, 0], [2, 2, 2, 2]], [[3, 3, 0, 0], [0, 0, 0, 0]]])
    found = locality(mass)
    np.testing.assert_allclose(found, [[0, 1], [0.5, np.nan]])
    assert not np.signbit(found[0, 0])
    for wrong in (np.array([1.0, -1]), np.array([1.0, np.nan]), np.array([1.0])):
        with pytest.raises(InputError, match="locality needs"):
            locality(wrong)


@given(st.lists(st.floats(0, 10), min_size=2, max_size=6).filter(lambda x: sum(x) > 1e-3))
def test_locality_does_not_depend_on_scale_or_order(mass: list[float]) -> None:
    found = float(locality(np.array(mass)))
    assert -1e-12 <= found <= 1 + 1e-12
    assert float(locality(7 * np.array(mass[::-1]))) == pytest.approx(found, abs=1e-9)


def truth_of(z: np.ndarray, count: int = 3) -> Truth:
    logits = z @ RANDOM.random((z.shape[1], count))
    return Truth(z, logits, [2, 0], logits[:, [2, 0]] > np.median(logits[:, [2, 0]], 0))


def test_the_table_has_a_row_for_each_measure() -> None:
    truth = truth_of(RANDOM.random((20, 6)))
    weights = RANDOM.random((2, 4))
    features = RANDOM.random((20, 4))
    contributions = features[:, None] * weights
    system = System(features, contributions, contributions.sum(2) + 1, truth.activations + 0.1)
    table = measure(system, truth, ["c", "a"], mass=RANDOM.random((5, 4, 3)))
    values = table.set_index(["class", "measure"])["value"]
    assert values.index.is_unique and len(values) == 2 * 6 + 4
    own = truth.own[:, 1]
    error = np.sqrt(((system.scores[:, 1] - truth.logits[:, 0]) ** 2).mean())
    assert values["a", "rmse"] == pytest.approx(error)
    assert values["a", "rmse_relative"] == pytest.approx(error / truth.logits[:, 0].std())
    counts = [int(significant_features(row).sum()) for row in contributions[own, 1]]
    assert values["a", "significant_features"] == pytest.approx(np.mean(counts))
    assert values["c", "orthogonality"] == pytest.approx(mean_correlation(contributions[:, 0]))
    assert values[ALL, "features"] == 4 and 0 <= values[ALL, "locality"] <= 1
    assert table["items"].tolist().count(5) == 1


def test_a_class_without_held_out_items_has_no_means() -> None:
    truth = truth_of(RANDOM.random((8, 3)))
    empty = Truth(truth.activations, truth.logits, [2, 0], np.zeros((8, 2), dtype=bool))
    features = RANDOM.random((8, 2))
    system = System(features, np.stack([features] * 2, 1), empty.scores, empty.activations)
    values = measure(system, empty, ["c", "a"]).set_index(["class", "measure"])["value"]
    assert math.isnan(values["c", "significant_features"])
    assert math.isnan(values["c", "orthogonality_own"])
    assert values["c", "rmse"] == 0


@pytest.mark.parametrize("kind", ["nmf", "pca"])
def test_baselines_find_what_they_are_made_for(kind: str) -> None:
    latents = RANDOM.gamma(0.5, 1.0, (200, 3))
    z = latents @ RANDOM.random((3, 12))
    y = np.column_stack([latents @ [1.0, -2, 3] + 5, latents @ [0.0, 1, 1]])
    system = baseline(kind, z, y, 3, seed=0)(z)
    truth = Truth(z, y, [0, 1], np.ones(y.shape, dtype=bool))
    values = measure(system, truth, ["a", "b"]).set_index(["class", "measure"])["value"]
    assert values["a", "rmse_relative"] < 0.05 and values[ALL, "reconstruction"] < 0.05
    assert system.contributions.shape == (200, 2, 3)
    np.testing.assert_allclose(
        system.scores - system.contributions.sum(2),
        np.broadcast_to(system.scores[0] - system.contributions[0].sum(1), (200, 2)),
    )
    if kind == "pca":
        assert values["a", "orthogonality"] < 1e-6
    table = compare_systems({kind: system, "again": system}, truth, ["a", "b"])
    assert table["system"].unique().tolist() == [kind, "again"]


def test_baselines_need_as_many_items_and_activations_as_features() -> None:
    with pytest.raises(InputError, match="5 features need as many"):
        baseline("pca", np.ones((10, 3)), np.ones((10, 1)), 5, seed=0)
