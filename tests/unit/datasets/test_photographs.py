"""Photographs of Python packages: what is written, and what the ordinary images path reads."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from preddiff.datasets import photographs
from preddiff.datasets.imagenet import imagenet_classes
from preddiff.datasets.photographs import (
    PHOTOGRAPHS,
    PhotographSet,
    PhotographSettings,
    write_photographs,
)
from preddiff.errors import InputError
from preddiff.settings.base import validate


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_photographs_are_those_of_the_packages(tmp_path: Path) -> None:
    skimage = pytest.importorskip("skimage")
    sheet = write_photographs(tmp_path, PhotographSettings())
    table = pd.read_csv(sheet, sep="\t", keep_default_na=False)
    assert [Path(file).stem for file in table["file"]] == list(PHOTOGRAPHS)
    for name in ("chelsea", "coffee", "rocket", "astronaut"):
        (file,) = tmp_path.glob(f"{name}.*")
        assert np.array_equal(pixels(file), getattr(skimage.data, name)())
    for name in ("china", "flower"):
        assert np.array_equal(pixels(tmp_path / f"{name}.jpg"), load_sample_image(f"{name}.jpg"))


def test_every_photograph_names_its_licence_and_a_class_of_imagenet() -> None:
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert (classes[0], classes[281], classes[999]) == ("tench", "tabby", "toilet tissue")
    for one in PHOTOGRAPHS.values():
        assert one.licence in ("CC0", "public domain", "CC BY 2.0") and one.author
        assert not one.label or classes.count(one.label) == 1


def test_parts_are_the_ends_of_the_longer_side_and_their_mirror_images(tmp_path: Path) -> None:
    write_photographs(tmp_path, PhotographSettings(names=["china"]))
    sheet = write_photographs(tmp_path, PhotographSettings(names=["china"], views="parts"))
    whole = pixels(tmp_path / "china.jpg")
    height, width, _ = whole.shape
    assert width > height
    first, last = whole[:, :height], whole[:, width - height :]
    expected = {
        "china-first.png": first,
        "china-first-mirrored.png": first[:, ::-1],
        "china-last.png": last,
        "china-last-mirrored.png": last[:, ::-1],
    }
    assert list(pd.read_csv(sheet, sep="\t")["file"]) == list(expected)
    for name, part in expected.items():
        assert np.array_equal(pixels(tmp_path / name), part)


@pytest.mark.parametrize(("views", "each"), [("whole", 1), ("parts", 4)])
def test_the_number_of_items_is_known_before_they_are_written(views, each, tmp_path) -> None:
    settings = {"names": ["china", "flower"], "views": views}
    found = PhotographSet(photographs=settings)
    sheet = write_photographs(tmp_path, found.photographs)
    assert found.number_of_items() == 2 * each == len(pd.read_csv(sheet, sep="\t"))


def test_images_are_read_by_the_sheet_with_classes_of_imagenet(tmp_path: Path) -> None:
    found = PhotographSet(photographs={"names": ["china"]})
    sheet = write_photographs(tmp_path, found.photographs)
    images = found.preparation_with(sheet)
    (entry,) = images.entries()
    assert (entry.name, entry.label, entry.file) == ("china.jpg", "palace", tmp_path / "china.jpg")
    assert images.classes == tmp_path / "classes.txt"
    assert tuple(images.classes.read_text().splitlines()) == imagenet_classes()


def test_missing_packages_are_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    remedy = r"which is not installed: run pip install -e '\.\[demo\]'"
    with pytest.raises(InputError, match=f"^study: photographs come with skimage, {remedy}"):
        validate(PhotographSet, {"photographs": {}}, "study")
    with pytest.raises(InputError, match=f"photographs come with sklearn, {remedy}"):
        write_photographs(tmp_path, PhotographSettings(names=["flower"]))


def test_a_version_of_a_package_without_the_photograph_is_named(monkeypatch, tmp_path) -> None:
    moved = photographs.Photograph("sklearn", "datasets/images/china.webp", "", "CC0", "")
    monkeypatch.setitem(PHOTOGRAPHS, "china", moved)
    with pytest.raises(InputError, match="sklearn has no file datasets/images/china"):
        write_photographs(tmp_path, PhotographSettings(names=["china"]))


def test_names_are_checked() -> None:
    with pytest.raises(InputError, match="all names must differ"):
        validate(PhotographSettings, {"names": ["china", "china"]}, "study")
    with pytest.raises(InputError, match=r"names\.0: Input should be 'chelsea'"):
        validate(PhotographSettings, {"names": ["cat"]}, "study")
