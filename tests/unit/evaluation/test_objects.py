"""Maps compared by how they find objects: baselines, signs, paired summary."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from preddiff.evaluation.boxes import tightest_box
from preddiff.evaluation.objects import (
    CENTRE_BOX,
    CENTRE_GAUSSIAN,
    centre_maps,
    compare_objects,
    score_objects,
)
from preddiff.evaluation.saliency import salient, scaled

BOX = np.array([[2, 1, 6, 5]], dtype=np.float32)


@pytest.mark.parametrize("space", [(224, 224), (21, 30), (8, 8)])
def test_the_centre_box_is_its_own_tightest_box(space: tuple[int, int]) -> None:
    values = centre_maps(space)[CENTRE_BOX]
    box = tightest_box(values)
    assert box is not None
    area = (box[2:] - box[:2]).prod()
    assert area == values.sum() == salient(scaled(values)).sum()
    # Half of the image, up to a pixel along each side.
    assert abs(area / np.prod(space) - 0.5) <= 1.5 / min(space)
    assert box[0] + box[2] == space[1] and box[1] + box[3] == space[0]


@pytest.mark.parametrize("space", [(7, 9), (8, 12)])
def test_the_gaussian_is_largest_in_the_centre(space: tuple[int, int]) -> None:
    values = centre_maps(space)[CENTRE_GAUSSIAN]
    assert np.allclose(values, values[::-1]) and np.allclose(values, values[:, ::-1])
    rows, columns = np.nonzero(values == values.max())
    assert (np.abs(rows - (space[0] - 1) / 2) < 1).all()
    assert (np.abs(columns - (space[1] - 1) / 2) < 1).all()
    # A quarter of a side from the centre is one standard deviation.
    row = values[space[0] // 2] if space[0] % 2 else None
    if row is not None:
        x = (np.arange(9) + 0.5) / 9 - 0.5
        assert np.allclose(row, np.exp(-8 * x**2))


def test_evidence_against_is_not_scored() -> None:
    evidence = np.zeros((8, 8))
    evidence[1:5, 2:6] = 1
    evidence[7] = -5
    truth = evidence > 0
    found = score_objects(evidence, BOX, truth)
    assert found == score_objects(np.maximum(evidence, 0), BOX, truth)
    assert found["iou"] == found["pointing"] == found["precision"] == 1 and found["mae"] == 0


def test_only_what_is_annotated_is_measured() -> None:
    values, mask = np.random.default_rng(0).random((8, 8)), np.eye(8, dtype=bool)
    assert list(score_objects(values, BOX, None)) == ["iou", "localised", "pointing"]
    assert list(score_objects(values, None, mask)) == ["precision", "recall", "f_measure", "mae"]
    assert len(score_objects(values, BOX, mask)) == 7
    assert score_objects(values, BOX[:0], mask & False) == {}


def table(**maps: dict[str, list[float]]) -> pd.DataFrame:
    frames = [
        pd.DataFrame({"map": name, "item": [f"i{n}" for n in range(4)], **measures})
        for name, measures in maps.items()
    ]
    return pd.concat(frames, ignore_index=True)


def test_each_measure_is_compared_with_its_baseline() -> None:
    nan = np.nan
    given = table(
        ours={
            "iou": [0.8, 0.7, 0.9, nan],
            "localised": [1, 1, 1, nan],
            "mae": [0.1, 0.2, 0.3, 0.5],
        },
        **{
            CENTRE_BOX: {"iou": [0.5, 0.8, 0.4, 0.1], "localised": [0, 1, 0, 0], "mae": [1] * 4},
            CENTRE_GAUSSIAN: {"iou": [0] * 4, "localised": [0] * 4, "mae": [0.2, 0.2, 0.4, 0.6]},
        },
    )
    rows = compare_objects(given.sample(frac=1, random_state=3))
    assert set(rows["map"]) == set(given["map"])
    ordered = compare_objects(given)
    assert list(ordered["measure"]) == ["iou", "localised", "mae"] * 3
    assert list(ordered["map"]) == [
        name for name in ("ours", CENTRE_BOX, CENTRE_GAUSSIAN) for _ in range(3)
    ]
    found = ordered.set_index(["map", "measure"])
    assert found.loc[("ours", "iou"), "reference"] == CENTRE_BOX
    assert found.loc[("ours", "mae"), "reference"] == CENTRE_GAUSSIAN
    ours = found.loc[("ours", "iou")]
    assert (ours["items"], ours["pairs"]) == (3, 3)
    assert ours["mean"] == pytest.approx(0.8)
    differences = [0.3, -0.1, 0.5]
    interval = stats.ttest_1samp(differences, 0).confidence_interval()
    assert ours["difference"] == pytest.approx(np.mean(differences))
    assert [ours["difference_low"], ours["difference_high"]] == pytest.approx(list(interval))
    assert ours["better"] == pytest.approx(2 / 3)
    assert ours["p_value"] == pytest.approx(stats.wilcoxon(differences).pvalue)
    # A smaller error is better.
    assert found.loc[("ours", "mae"), "better"] == 0.75
    assert np.isnan(found.loc[(CENTRE_BOX, "iou"), "difference"])
    assert np.isnan(found.loc[(CENTRE_GAUSSIAN, "mae"), "p_value"])
    assert found.loc[(CENTRE_GAUSSIAN, "iou"), "difference"] == pytest.approx(-0.45)


def test_the_interval_of_a_share_is_wilsons() -> None:
    baselines = {CENTRE_BOX: {"localised": [0.0] * 4}, CENTRE_GAUSSIAN: {"localised": [0.0] * 4}}
    rows = compare_objects(table(ours={"localised": [1.0] * 4}, **baselines))
    found = rows.set_index("map").loc["ours"]
    z = stats.norm.ppf(0.975)
    assert found["mean"] == 1
    assert found["low"] == pytest.approx(4 / (4 + z**2)) and found["high"] == pytest.approx(1)


def test_an_empty_table_has_an_empty_summary() -> None:
    rows = compare_objects(pd.DataFrame(columns=["map", "item", "target", "iou"]))
    assert rows.empty and "measure" in rows
