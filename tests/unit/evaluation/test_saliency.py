"""Agreement with masks: precision, recall and F-measure against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_absolute_error, precision_recall_fscore_support

from preddiff.evaluation.saliency import MEASURES, salient, scaled, score_saliency

maps = arrays(np.float32, (5, 6), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]))
masks = arrays(np.bool_, (5, 6))


@given(maps, masks)
def test_measures_are_scikit_learns(values: np.ndarray, truth: np.ndarray) -> None:
    assume(truth.any() and values.min() < values.max())
    above = values.ravel() - values.min()  # exact, and so are the sums of quarters
    sums = 2 * above.sum()
    # Where a value is twice the mean, rounding decides.
    assume(sums >= len(above) * above.max() or (above * len(above) != sums).all())
    chosen = (above * len(above) >= sums) | (above == above.max())
    scale = above / np.float64(above.max())
    precision, recall, f, _ = precision_recall_fscore_support(
        truth.ravel(), chosen, beta=math.sqrt(0.3), average="binary", zero_division=0
    )
    expected = {"precision": precision, "recall": recall, "f_measure": f}
    expected["mae"] = mean_absolute_error(truth.ravel(), scale)
    found = score_saliency(values, truth)
    assert tuple(found) == MEASURES
    assert found == pytest.approx(expected, abs=1e-12)
    assert salient(scaled(values)).any()


def test_a_map_by_hand() -> None:
    values = np.array([[0, 0, 0, 1], [0, 0, 0.5, 1]])
    truth = np.array([[0, 0, 1, 1], [0, 0, 0, 1]], dtype=bool)
    # The mean is 0.3125: 1 is chosen, 0.5 is not.
    found = score_saliency(values, truth)
    assert found["precision"] == 1 and found["recall"] == pytest.approx(2 / 3)
    assert found["f_measure"] == pytest.approx(1.3 * (2 / 3) / (0.3 + 2 / 3))
    assert found["mae"] == pytest.approx((1 + 0.5) / 8)
    assert score_saliency(truth.astype(float), truth) == {
        "precision": 1, "recall": 1, "f_measure": pytest.approx(1), "mae": 0,
    }  # fmt: skip


def test_maps_that_are_bright_nearly_everywhere_still_choose_the_largest() -> None:
    values = np.ones((4, 5))
    values[0, 0] = 0
    assert salient(scaled(values)).sum() == 19


@pytest.mark.parametrize("value", [0.0, 0.3, 5.0])
def test_constant_maps_choose_nothing(value: float) -> None:
    truth = np.zeros((4, 5), dtype=bool)
    truth[0] = True
    found = score_saliency(np.full((4, 5), value, dtype=np.float32), truth)
    assert found == {"precision": 0, "recall": 0, "f_measure": 0, "mae": pytest.approx(0.25)}
