"""Boxes: overlap against torchvision, the tightest box and the pointing game against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import box_iou

from preddiff.evaluation.boxes import MEASURES, overlaps, pointing, score_boxes, tightest_box

# Few values, so that pixels are equal to each other and to thresholds.
maps = arrays(np.float32, (6, 7), elements=st.sampled_from([0.0, 0.5, 1.0, 1.5, 4.0]))
corner = st.floats(0, 5, width=16)
boxes = st.lists(
    st.tuples(corner, corner, st.floats(0.5, 5, width=16), st.floats(0.5, 5, width=16)),
    min_size=1,
    max_size=4,
).map(lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=np.float32))


@given(boxes, boxes)
def test_overlap_is_torchvisions(one: np.ndarray, others: np.ndarray) -> None:
    found = overlaps(one[0].astype(np.float64), others)
    expected = box_iou(torch.from_numpy(one[:1]).double(), torch.from_numpy(others).double())
    assert found == pytest.approx(expected[0].numpy(), abs=1e-12)


@given(maps, st.sampled_from([1.0, 1.5, 2.0]))
def test_tightest_box_against_a_loop(values: np.ndarray, alpha: float) -> None:
    mean = sum(map(float, values.ravel())) / values.size
    chosen = [(y, x) for y in range(6) for x in range(7) if values[y, x] > alpha * mean]
    box = tightest_box(values, alpha)
    if values.min() == values.max() or not chosen:
        assert box is None
        return
    ys, xs = zip(*chosen, strict=True)
    assert box.tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
    assert tightest_box(values * np.float32(8), alpha).tolist() == box.tolist()


def test_tightest_box_of_a_map_by_hand() -> None:
    values = np.zeros((5, 6))
    values[1:4, 2:5] = 1
    values[0, 0] = 0.1  # under 1.5 times the mean, 0.455
    assert tightest_box(values).tolist() == [2, 1, 5, 4]
    assert score_boxes(values, np.array([[2, 1, 5, 4]])) == {
        "iou": 1.0, "localised": 1.0, "pointing": 1.0,
    }  # fmt: skip
    # A single pixel far away makes the box as large as it gets.
    values[4, 0] = 1
    assert tightest_box(values).tolist() == [0, 1, 5, 5]
    found = score_boxes(values, np.array([[0, 0, 1, 1], [2, 1, 5, 4]]))
    assert found == {"iou": 9 / 20, "localised": 0.0, "pointing": 9 / 10}
    assert tuple(found) == MEASURES


def test_an_overlap_of_one_half_is_not_enough() -> None:
    values = np.zeros((4, 4))
    values[:2, :2] = 1
    assert score_boxes(values, np.array([[0, 0, 4, 2]]))["iou"] == 0.5
    assert score_boxes(values, np.array([[0, 0, 4, 2]]))["localised"] == 0
    assert score_boxes(values, np.array([[0, 0, 3.9, 2]]))["localised"] == 1


@given(maps, boxes)
def test_pointing_against_a_loop(values: np.ndarray, found: np.ndarray) -> None:
    largest = [(y, x) for y in range(6) for x in range(7) if values[y, x] == values.max()]
    hits = [any(a <= x + 0.5 < c and b <= y + 0.5 < d for a, b, c, d in found) for y, x in largest]
    assert pointing(values, found) == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 7.0])
def test_constant_maps_find_nothing_but_by_chance(value: float) -> None:
    # 0.1 in float32: the mean of equal values is not always that value.
    values = np.full((5, 8), value, dtype=np.float32)
    found = score_boxes(values, np.array([[0, 0, 4, 5]]))
    assert found == {"iou": 0.0, "localised": 0.0, "pointing": 0.5}
