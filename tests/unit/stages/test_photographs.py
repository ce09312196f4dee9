"""Stages photographs and prepare-images: photographs of packages become a data store."""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_image

from preddiff.cli import main
from preddiff.datasets.items import Items
from preddiff.datasets.photographs import PhotographSet


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def test_photographs_become_a_store_with_classes_of_imagenet(tmp_path: Path) -> None:
    dataset = PhotographSet(photographs={"names": ["china", "flower"]})
    settings = dataset.photographs.model_dump_json()
    run("photographs", "--settings", settings, "--out", tmp_path / "made")
    images = dataset.preparation_with(tmp_path / "made/photographs.tsv").model_dump(mode="json")
    geometry = {"resize": None, "crop": 400}
    written = json.dumps({"images": images, "geometry": geometry})
    store = ("--out", tmp_path / "data.zarr", "--report", tmp_path / "report.tsv")
    run("prepare-images", "--settings", written, *store)
    items = Items(tmp_path / "data.zarr")
    assert list(items.names) == ["china.jpg", "flower.jpg"]
    assert items.groups == ["palace", ""]
    assert list(items.class_numbers) == [items.classes.index("palace"), -1]
    # The central square, whose first row is one of the two nearest to the middle.
    known = load_sample_image("china.jpg")
    assert known.shape == (427, 640, 3)
    found = np.moveaxis(items.read([0])[0], 0, -1) * 255
    assert np.array_equal(np.round(found), known[14:414, 120:520])
