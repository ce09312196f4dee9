"""Curves of deletion and insertion against additive classifiers, whose curves are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from preddiff.evaluation.deletion import (
    Curves,
    area_table,
    area_under,
    compare_curves,
    deletion_and_insertion,
    first_class_target,
    mean_curves,
    mean_of_random_orders,
    order_of_windows,
    probability_curve,
)

shapes = st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9))


def brightness(x: torch.Tensor) -> torch.Tensor:
    return x.double().flatten(1).sum(1)


@given(shapes, st.integers(1, 4), st.integers(1, 30), st.integers(1, 7), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_curves_lead_from_start_to_end(shape, k, steps, batch_size, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.rand((2, *shape), generator=generator)
    tiles = -(-shape[1] // k) * -(-shape[2] // k)
    order = np.random.default_rng(seed).permutation(tiles)
    found = probability_curve(brightness, start, end, order, k, steps=steps, batch_size=batch_size)
    assert len(found) == min(steps, tiles) + 1
    assert found[0] == pytest.approx(float(brightness(start[None])[0]))
    assert found[-1] == pytest.approx(float(brightness(end[None])[0]))
    assert found == pytest.approx(
        probability_curve(brightness, start, end, order, k, steps=steps, batch_size=1000)
    )


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_curve_of_an_additive_classifier_is_a_running_sum(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.rand((2, 2, 6, 8), generator=generator)
    order = np.random.default_rng(seed).permutation(12)
    steps = [
        float(
            (end - start)[:, 2 * (n // 4) : 2 * (n // 4) + 2, 2 * (n % 4) : 2 * (n % 4) + 2].sum()
        )
        for n in order
    ]
    expected = float(start.sum()) + np.concatenate([[0], np.cumsum(steps)])
    found = probability_curve(brightness, start, end, order, 2, steps=12, batch_size=5)
    assert found == pytest.approx(expected, abs=1e-4)


def test_true_contributions_delete_fastest() -> None:
    generator = torch.Generator().manual_seed(1)
    start, end = torch.rand((1, 8, 8), generator=generator), torch.zeros((1, 8, 8))
    best = area_under(
        probability_curve(
            brightness, start, end, order_of_windows(start[0].numpy(), 2), 2, steps=16, batch_size=4
        )
    )
    orders = np.random.default_rng(0)
    others = [
        area_under(
            probability_curve(
                brightness, start, end, orders.permutation(16), 2, steps=16, batch_size=4
            )
        )
        for _ in range(30)
    ]
    assert best < min(others)


@pytest.mark.parametrize(("shape", "k"), [((6, 6), 2), ((7, 5), 3), ((4, 4), 4), ((5, 6), 1)])
def test_order_against_loops(shape: tuple[int, int], k: int) -> None:
    relevance = np.random.default_rng(3).normal(size=shape)
    starts = [[*range(0, n - k + 1, k)] + ([n - k] if (n - k) % k else []) for n in shape]
    means = [relevance[y : y + k, x : x + k].mean() for y in starts[0] for x in starts[1]]
    expected = sorted(range(len(means)), key=lambda n: -means[n])
    assert list(order_of_windows(relevance, k)) == expected


def test_equal_relevance_keeps_the_order_of_windows() -> None:
    assert list(order_of_windows(np.zeros((4, 4)), 2)) == [0, 1, 2, 3]


def test_areas() -> None:
    assert area_under(np.array([1.0, 1, 1])) == 1
    assert area_under(np.array([1.0, 0])) == 0.5


def test_comparison_is_a_paired_t_test() -> None:
    generator = np.random.default_rng(5)
    names = [f"item {n}" for n in range(12)]
    rows = [
        {"map": m, "item": i, "deletion": generator.random(), "insertion": generator.random()}
        for m in ("ours", "random")
        for i in names
    ]
    table = pd.DataFrame(rows)
    found = compare_curves(table, "random").set_index(["map", "measure"])
    ours, other = (table[table["map"] == m].set_index("item") for m in ("ours", "random"))
    for measure, sign in (("deletion", -1), ("insertion", 1)):
        row = found.loc[("ours", measure)]
        test = stats.ttest_rel(ours[measure], other[measure])
        interval = test.confidence_interval(0.95)
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(interval))
        assert row["better"] == np.mean(sign * (ours[measure] - other[measure]) > 0)
    assert np.isnan(found.loc[("random", "deletion")]["difference"])


def test_maps_are_compared_with_random_orders_of_the_same_class() -> None:
    rows = [
        {"map": name, "item": item, "class": number, "deletion": area, "insertion": area}
        for item in "abc"
        for number, area in ((0, 0.2), (1, 0.8))
        for name in (f"map {number}", "random")
    ]
    found = compare_curves(pd.DataFrame(rows), "random").set_index(["map", "measure"])
    for name in ("map 0", "map 1"):
        assert found.loc[(name, "deletion"), "difference"] == pytest.approx(0)


def test_insertion_is_deletion_from_the_other_end() -> None:
    generator = torch.Generator().manual_seed(4)
    image, filled = torch.rand((2, 1, 4, 6), generator=generator)
    order = np.array([4, 1, 0, 3, 2, 5])
    found = deletion_and_insertion(brightness, image, filled, order, 2, steps=6, batch_size=4)
    assert found.shape == (2, 7)
    # Brightness is additive: what deletion takes away, insertion brings back.
    both = float(image.sum() + filled.sum())
    assert found.sum(axis=0) == pytest.approx(np.full(7, both), rel=1e-6)
    assert found[0, 0] == pytest.approx(float(image.sum()))
    assert found[1, 0] == pytest.approx(float(filled.sum()))


def test_random_orders_are_drawn_anew_and_averaged() -> None:
    orders: list[list[int]] = []

    def follow(order: np.ndarray) -> np.ndarray:
        orders.append(list(order))
        return np.stack([order, 2 * order]).astype(float)

    found = mean_of_random_orders(follow, 9, 4, np.random.default_rng(0))
    assert all(sorted(order) == list(range(9)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    expected = np.mean(orders, axis=0)
    assert found == pytest.approx(np.stack([expected, 2 * expected]))


def test_tables_of_curves_go_map_by_map() -> None:
    curves = [
        Curves("ours", "a.png", 3, np.array([[1.0, 0.5, 0], [0, 1, 1]])),
        Curves("random", "a.png", 3, np.array([[1.0, 1, 1], [1, 1, 1]])),
        Curves("ours", "b.png", 0, np.array([[0.5, 0.5, 0.5], [1, 0, 1]])),
    ]
    assert area_table(curves).to_dict("list") == {
        "map": ["ours", "ours", "random"],
        "item": ["a.png", "b.png", "a.png"],
        "class": [3, 0, 3],
        "deletion": [0.5, 0.5, 1],
        "insertion": [0.75, 0.5, 1],
    }
    assert mean_curves(curves).to_dict("list") == {
        "map": ["ours"] * 3 + ["random"] * 3,
        "share": [0, 0.5, 1] * 2,
        "deletion": [0.75, 0.5, 0.25, 1, 1, 1],
        "insertion": [0.5, 0.5, 1, 1, 1, 1],
    }


def test_the_first_target_that_is_of_a_class_for_all_items() -> None:
    assert first_class_target(np.array([[-1, 3, -1, 2], [-1, -1, 0, 1]])) == 3
    assert first_class_target(np.array([[0, 1], [2, -1]])) == 0
    assert first_class_target(np.array([[-1], [-1]])) is None
