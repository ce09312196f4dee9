"""The stage localise-images, from image files to tables, with maps that are good and bad."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.stages.localise_images import localise_images
from preddiff.storage.stores import Variable, array, create
from tests.unit.stages.test_prepare_images import prepared, write_images

BASELINES = ["centre-box", "centre-gaussian"]


@pytest.fixture
def items(tmp_path: Path) -> Items:
    folder = write_images(tmp_path / "given")
    return prepared(folder, boxes_column="boxes", masks_column="mask")[0]


def write_maps(path: Path, names: list[str], maps: list[np.ndarray]) -> Path:
    """Write a store with two targets, of which only the first is to be scored."""
    values = np.stack([np.stack([one, np.zeros_like(one)]) for one in maps]).astype(np.float32)
    variable = Variable(("item", "target", "y", "x"), values.shape, (1, *values.shape[1:]), {})
    coordinates = {
        "item": ("item", np.array(names)),
        "target": ("target", np.array(["probability:top-1", "logit:top-1"])),
    }
    create(path, {"relevance": variable}, coordinates, {})
    array(zarr.open_group(path, mode="r+", use_consolidated=False), "relevance")[:] = values
    return path


def run(items: Items, *stores: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = items.path.parent
    localise_images(list(stores), items.path, folder / "t.tsv", folder / "s.tsv")
    return tuple(pd.read_csv(folder / name, sep="\t") for name in ("t.tsv", "s.tsv"))


def test_good_and_bad_maps(tmp_path: Path, items: Items) -> None:
    pixels = [items.read([number])[0, 0] for number in range(3)]
    good = write_maps(tmp_path / "good.zarr", items.names, pixels)
    bad = write_maps(tmp_path / "bad.zarr", items.names[::-1], [-one for one in pixels[::-1]])
    table, summary = run(items, good, bad)
    assert list(dict.fromkeys(table["map"])) == ["good", "bad", *BASELINES]
    assert len(table) == 4 * 3
    best = table[table["map"] == "good"].set_index("item")
    assert list(best.index) == items.names
    assert (best[["iou", "localised", "pointing", "precision", "recall", "f_measure"]] == 1).all(
        axis=None
    )
    assert (best["mae"] == 0).all() and (best["target"] == "probability:top-1").all()
    worst = table[table["map"] == "bad"].set_index("item")
    # There is no positive evidence: a random pixel is in the box by chance.
    assert (worst[["iou", "localised", "precision", "recall", "f_measure"]] == 0).all(axis=None)
    shares = [items.truth(number).mean() for number in range(3)]
    assert worst.loc[items.names, "pointing"].tolist() == pytest.approx(shares, rel=1e-5)
    assert worst.loc[items.names, "mae"].tolist() == pytest.approx(shares, rel=1e-5)
    found = summary.set_index(["map", "measure"])
    assert len(found) == 4 * 7
    assert found.loc[("good", "iou"), "reference"] == "centre-box"
    assert found.loc[("good", "iou"), "difference"] > 0 > found.loc[("bad", "iou"), "difference"]
    assert found.loc[("good", "mae"), "better"] == 1
    assert np.isnan(found.loc[("centre-box", "iou"), "difference"])


def test_images_without_annotations_are_skipped(tmp_path: Path, capsys) -> None:
    folder = write_images(tmp_path / "given")
    text = (folder / "sheet.tsv").read_text()
    (folder / "sheet.tsv").write_text(text.replace("0 0 8 8", ""))
    items, _ = prepared(folder, boxes_column="boxes")
    maps = write_maps(tmp_path / "ours.zarr", items.names, [np.ones(items.space)] * 3)
    table, summary = run(items, maps)
    assert list(table["item"]) == [items.names[0], items.names[2]] * 3
    assert "mae" not in table and set(summary["measure"]) == {"iou", "localised", "pointing"}
    # Explanations of images without boxes only leave empty tables, rather than end a study.
    maps = write_maps(tmp_path / "ours.zarr", items.names[1:2], [np.ones(items.space)])
    table, summary = run(items, maps)
    assert table.empty and summary.empty
    assert "none of the explained images has a box or a mask" in capsys.readouterr().err


def test_bad_input_is_refused_by_name(tmp_path: Path, items: Items) -> None:
    ones = np.ones(items.space)
    with pytest.raises(InputError, match=r"small\.zarr: its maps have the shape \(3, 3\)"):
        run(items, write_maps(tmp_path / "small.zarr", items.names[:1], [np.ones((3, 3))]))
    with pytest.raises(InputError, match=r"gaps\.zarr: the map of item 'images/a\.png' is incompl"):
        run(items, write_maps(tmp_path / "gaps.zarr", items.names[:1], [ones * np.nan]))
    with pytest.raises(InputError, match="has no item 'stranger'"):
        run(items, write_maps(tmp_path / "others.zarr", ["stranger"], [ones]))
    with pytest.raises(InputError, match="two maps would be called 'centre-box'"):
        run(items, write_maps(tmp_path / "centre-box.zarr", items.names[:1], [ones]))
    plain, _ = prepared(tmp_path / "given")
    with pytest.raises(InputError, match=r"data\.zarr has neither boxes nor masks"):
        run(plain, tmp_path / "gaps.zarr")
