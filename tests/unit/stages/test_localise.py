"""The stage localise on a small cohort, with maps that find its lesions well and badly."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.stages.localise import _baseline, localise
from preddiff.storage.stores import Variable, array, create
from tests.unit.datasets.stores import write_store

SPACE = (4, 5, 6)


@pytest.fixture
def cohort(tmp_path: Path) -> np.ndarray:
    """Masks of four items, of which the first two have lesions; writes data and a classifier."""
    generator = np.random.default_rng(0)
    truth = np.zeros((4, *SPACE), dtype=np.uint8)
    truth[:2, 1:3] = generator.random((2, 2, *SPACE[1:])) < 0.3
    values = generator.normal(size=truth.shape).astype(np.float32)
    write_store(tmp_path / "data.zarr", values, affine=np.eye(4), truth=truth)
    weights = generator.normal(size=(1, 2, *SPACE[1:]))
    classifier = LinearClassifier(weights, 0.0, ("control", "patient"), 4, (1, 0, 0))
    classifier.save(tmp_path / "classifier", {})
    return truth[:, 1:3]


def write_relevance(path: Path, items: list[str], maps: np.ndarray) -> Path:
    variable = Variable(("item", "target", "x", "y", "z"), maps.shape, (1, *maps.shape[1:]), {})
    create(path, {"relevance": variable}, {"item": ("item", np.array(items))}, {})
    array(zarr.open_group(path, mode="r+", use_consolidated=False), "relevance")[:] = maps
    return path


def test_tables_lie_where_they_are_asked_for(tmp_path: Path, cohort: np.ndarray) -> None:
    names = ["item-1", "item-3", "item-0"]
    maps = np.stack([-cohort[[1, 3, 0]], cohort[[1, 3, 0]] * 0], axis=1).astype(np.float32)
    store = write_relevance(tmp_path / "ours.zarr", names, maps)
    # Classifiers of such names had one table between them: the summary of the first.
    for name in ("a", "a-summary"):
        localise(
            [store],
            tmp_path / "classifier",
            tmp_path / "data.zarr",
            tmp_path / f"tables/{name}.tsv",
            tmp_path / f"summaries/{name}.tsv",
        )
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "a-summary.tsv",
        "a.tsv",
    ]
    for name in ("a", "a-summary"):
        table = pd.read_csv(tmp_path / f"tables/{name}.tsv", sep="\t")
        assert list(table["map"]) == ["ours", "ours", "weights", "weights"]
        assert list(table["item"]) == ["item-1", "item-0", "item-0", "item-1"]
        assert (table.loc[:1, "roc_auc"] == 1).all() and (table.loc[2:, "roc_auc"] < 1).all()
        summary = pd.read_csv(tmp_path / f"summaries/{name}.tsv", sep="\t")
        assert list(summary["measure"]) == ["roc_auc", "average_precision"] * 2


def test_a_map_without_lesions_is_skipped(
    tmp_path: Path, cohort: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = np.zeros((2, 1, *cohort.shape[1:]), dtype=np.float32)
    store = write_relevance(tmp_path / "controls.zarr", ["item-2", "item-3"], maps)
    data, out = tmp_path / "data.zarr", tmp_path / "t.tsv"
    localise([store], tmp_path / "classifier", data, out, tmp_path / "s.tsv")
    assert "controls.zarr: skipped, since none of its items has a lesion" in capsys.readouterr().err
    assert set(pd.read_csv(out, sep="\t")["map"]) == {"weights"}


def test_lesions_outside_the_slab_do_not_count(tmp_path: Path) -> None:
    truth = np.zeros((2, *SPACE), dtype=np.uint8)
    truth[:, 3] = 1
    values = np.ones(truth.shape, dtype=np.float32)
    write_store(tmp_path / "data.zarr", values, affine=np.eye(4), truth=truth)
    weights = np.ones((1, 2, *SPACE[1:]))
    classifier = LinearClassifier(weights, 0.0, ("control", "patient"), 2, (1, 0, 0))
    classifier.save(tmp_path / "classifier", {})
    with pytest.raises(InputError, match=r"data\.zarr has no truth masks inside"):
        localise(
            [], tmp_path / "classifier", tmp_path / "data.zarr", tmp_path / "t", tmp_path / "s"
        )


def test_the_weights_of_all_channels_count() -> None:
    weights = np.random.default_rng(1).normal(size=(3, 2, *SPACE))
    of_three = LinearClassifier(weights, np.zeros(3), ("a", "b", "c"), 4, (0, 0, 0))
    assert _baseline(of_three)[0] == "weights"
    assert np.allclose(_baseline(of_three)[1], weights[2, 0] + weights[2, 1])
    of_two = LinearClassifier(weights[0], 0.0, ("a", "b"), 4, (0, 0, 0))
    assert np.allclose(_baseline(of_two)[1], weights[0, 0] + weights[0, 1])
