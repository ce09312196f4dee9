"""The stage prepare-images: annotations in the store, faulty ones, and what depends on them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from preddiff.datasets.base import Geometry
from preddiff.datasets.images import ImageSet
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.stages.prepare_images import prepare_images
from preddiff.storage.stores import provenance_of
from tests.unit.datasets.test_annotations import OBJECT, SIZE, write_xml

# Width and height of the images, and bright boxes in them.
WIDTH, HEIGHT = 40, 30
BOXES = {"a": (10, 5, 20, 15), "b": (0, 0, 8, 8), "c": (15, 10, 40, 30)}


def write_images(folder: Path) -> Path:
    """Write images of three classes with bright boxes, their masks, XML files and a sheet."""
    lines = ["file\tclass\tboxes\tmask"]
    for name, (xmin, ymin, xmax, ymax) in BOXES.items():
        pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        pixels[ymin:ymax, xmin:xmax] = 255
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"images/{name}.png")
        Image.fromarray(pixels[..., 0]).save(folder / f"masks/{name}.png")
        own = OBJECT.format(f"n{name}", xmin + 1, ymin + 1, xmax, ymax)
        other = OBJECT.format("person", 1, 1, 40, 30)
        write_xml(folder / f"xml/{name}.xml", SIZE.format(WIDTH, HEIGHT), other, own)
        box = f"{xmin} {ymin} {xmax} {ymax}"
        lines.append(f"images/{name}.png\t{name}\t{box}\tmasks/{name}.png")
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    (folder / "classes.tsv").write_text(
        "class_index\twnid\tclass_name\n0\tna\ta\n1\tnb\tb\n2\tnc\tc\n"
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "given")


def prepared(
    folder: Path, resize: int | None = None, crop: int = 30, **settings
) -> tuple[Items, pd.DataFrame]:
    out, report = folder.parent / "data.zarr", folder.parent / "report.tsv"
    images = ImageSet(images=folder / "sheet.tsv", classes=folder / "classes.tsv", **settings)
    prepare_images(images, Geometry(resize=resize, crop=crop), 0, 2, out, report)
    return Items(out), pd.read_csv(report, sep="\t", keep_default_na=False)


BOTH_WAYS = [
    lambda folder: {"boxes_column": "boxes", "masks_column": "mask"},
    lambda folder: {"annotations": folder / "xml", "masks": folder / "masks"},
]


@pytest.mark.parametrize("ways", BOTH_WAYS)
@pytest.mark.parametrize(("resize", "crop"), [(None, 30), (60, 52), (None, 50)])
def test_annotations_are_where_the_pixels_are(folder: Path, ways, resize, crop) -> None:
    items, report = prepared(folder, resize, crop, **ways(folder))
    assert report.empty
    for number, name in enumerate(items.names):
        bright = items.read([number])[0, 0] >= 0.5
        (box,) = items.boxes(number)
        ys, xs = np.nonzero(bright)
        # Antialiasing darkens corners, and nothing else.
        assert np.abs(box - [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).max() < 0.5, name
        truth = items.truth(number)
        assert truth.dtype == np.bool_ and (truth != bright).sum() <= 4
        assert np.array_equal(items.truth(number, (slice(0, 5), slice(2, 9))), truth[:5, 2:9])


def test_annotations_are_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmin, ymin, xmax, ymax = 3, 20, 15, 38
    upright = np.zeros((WIDTH, HEIGHT, 3), dtype=np.uint8)
    upright[ymin:ymax, xmin:xmax] = 255
    folder = tmp_path / "given"
    (folder / "masks").mkdir(parents=True)
    Image.fromarray(np.rot90(upright, 1)).save(folder / "a.png", exif=exif)
    Image.fromarray(upright[..., 0]).save(folder / "masks/a.png")
    (folder / "sheet.tsv").write_text(f"file\tboxes\na.png\t{xmin} {ymin} {xmax} {ymax}\n")
    (folder / "classes.tsv").write_text("class_index\tclass_name\n0\ta\n")
    items, _ = prepared(folder, None, 30, boxes_column="boxes", masks=folder / "masks", strict=True)
    bright = items.read([0])[0, 0] == 1
    assert np.array_equal(items.truth(0), bright)
    ys, xs = np.nonzero(bright)
    assert items.boxes(0).tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


def test_stores_with_boxes_open_with_xarray(folder: Path) -> None:
    with (folder / "sheet.tsv").open("a") as file:
        file.write("images/../images/a.png\ta\t0 0 30 30; 5 5 40 30\t\n")
        file.write("images/./../images/b.png\tb\t\t\n")
    prepared(folder, boxes_column="boxes", masks_column="mask")
    data = xr.open_zarr(folder.parent / "data.zarr")
    assert data["boxes"].dims == ("item", "box", "side") and data["boxes"].dtype == np.float32
    assert list(data["side"].values) == ["xmin", "ymin", "xmax", "ymax"]
    assert data["boxes"].notnull().all("side").sum("box").values.tolist() == [1, 1, 1, 2, 0]
    assert data["boxes"].sel(side="xmax").values[3].tolist() == [25, 30]
    assert data["truth"].dims == ("item", "y", "x") and data["truth"].dtype == np.uint8
    assert data["truth"].any(("y", "x")).values.tolist() == [True, True, True, False, False]


def test_other_datasets_have_no_annotations(folder: Path) -> None:
    items, _ = prepared(folder)
    assert items.boxes(0) is None and items.truth(0) is None
    assert sorted(path.name for path in items.path.iterdir() if path.is_dir()) == [
        "class_number", "digest", "group", "intensity", "item", "training", "x", "y",
    ]  # fmt: skip


def test_boxes_outside_the_crop_are_reported(folder: Path, capsys) -> None:
    text = (folder / "sheet.tsv").read_text()
    (folder / "sheet.tsv").write_text(text.replace("10 5 20 15", "0 0 5 30; 0 0 30 30; 35 0 40 9"))
    items, report = prepared(folder, boxes_column="boxes", strict=True)
    assert items.boxes(0).tolist() == [[0, 0, 25, 30]]
    assert list(report["image"]) == ["images/a.png"] * 2
    assert list(report["done"]) == ["box left out"] * 2
    assert "sheet.tsv, line 2: box 1 (0 0 5 30) has no pixel" in report["reason"][0]
    assert "box 3 (35 0 40 9)" in report["reason"][1]
    assert "annotations left out: 2; see" in capsys.readouterr().err


def break_xml(folder: Path) -> None:
    (folder / "xml/a.xml").write_text("<annotation>")


def break_doctype(folder: Path) -> None:
    path = folder / "xml/a.xml"
    path.write_text("<!DOCTYPE annotation>" + path.read_text())


def break_size(folder: Path) -> None:
    write_xml(folder / "xml/a.xml", SIZE.format(HEIGHT, WIDTH), OBJECT.format("a", 1, 1, 9, 9))


def break_mask(folder: Path) -> None:
    Image.new("L", (7, 7), 1).save(folder / "masks/a.png")


FAULTS = [
    (break_xml, "annotations", "xml", "boxes left out", r"a\.xml: not readable as XML"),
    (break_doctype, "annotations", "xml", "boxes left out", r"a\.xml: XML files with a document"),
    (break_size, "annotations", "xml", "boxes left out", r"a\.xml: .* 30 x 40"),
    (break_mask, "masks", "masks", "mask left out", r"a\.png: the mask has 7 x 7"),
]


@pytest.mark.parametrize(("fault", "key", "place", "done", "message"), FAULTS)
def test_faulty_annotations_are_left_out_but_their_images_are_not(
    folder: Path, fault, key, place, done, message, capsys
) -> None:
    fault(folder)
    items, report = prepared(folder, **{key: folder / place})
    assert len(items.names) == 3
    if key == "annotations":
        assert [len(items.boxes(n)) for n in range(3)] == [0, 1, 1]
    else:
        assert [items.truth(n).any() for n in range(3)] == [False, True, True]
    assert report[["image", "done"]].values.tolist() == [["images/a.png", done]]
    assert pd.Series(report["reason"]).str.contains(message).all()
    assert "annotations left out: 1; see" in capsys.readouterr().err
    with pytest.raises(InputError, match=message):
        prepared(folder, strict=True, **{key: folder / place})


def test_faulty_cells_are_left_out_by_line(folder: Path) -> None:
    text = (folder / "sheet.tsv").read_text()
    (folder / "sheet.tsv").write_text(text.replace("0 0 8 8", "0 0 8"))
    items, report = prepared(folder, boxes_column="boxes")
    assert [len(items.boxes(n)) for n in range(3)] == [1, 0, 1]
    assert "sheet.tsv, line 3: box 1 ('0 0 8') must be four numbers" in report["reason"][0]
    with pytest.raises(InputError, match="line 3: box 1"):
        prepared(folder, boxes_column="boxes", strict=True)


def test_annotations_of_nothing_are_refused(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    with pytest.raises(InputError, match=r"no image has boxes in .*elsewhere: files belong to"):
        prepared(folder, annotations=folder / "elsewhere")
    with pytest.raises(InputError, match=r"no image has a mask in .*elsewhere"):
        prepared(folder, masks=folder / "elsewhere")
    for path in (folder / "xml").iterdir():
        path.write_text("broken")
    with pytest.raises(InputError, match=r"no image has boxes in .*a\.xml: not readable"):
        prepared(folder, annotations=folder / "xml")
    assert not (folder.parent / "data.zarr").exists()


def test_a_change_of_annotations_is_in_the_provenance_but_not_in_the_digests(folder: Path) -> None:
    items, _ = prepared(folder, boxes_column="boxes", masks_column="mask")
    before = provenance_of(items.path)
    text = (folder / "sheet.tsv").read_text()
    (folder / "sheet.tsv").write_text(text.replace("10 5 20 15", "10 5 21 15"))
    again, _ = prepared(folder, boxes_column="boxes", masks_column="mask")
    assert again.digests == items.digests and again.names == items.names
    after = provenance_of(items.path)
    assert {key for key in after if after[key] != before[key]} == {"annotations"}


def test_annotations_are_input_files(folder: Path) -> None:
    images = ImageSet(images=folder / "sheet.tsv", annotations=folder / "xml", masks_column="mask")
    assert images.has_boxes and images.has_truth
    files = images.input_files()
    assert {folder / "xml", folder / "xml/b.xml", folder / "masks/c.png"} <= set(files)
    assert len(files) == len(set(files)) == 2 + 3 * 3
    (folder / "masks/c.png").unlink()
    assert folder / "masks/c.png" not in images.input_files()


def test_sources_are_given_once_and_columns_for_sheets_only(folder: Path) -> None:
    with pytest.raises(ValueError, match="give either masks_column or masks, not both"):
        ImageSet(images=folder / "sheet.tsv", masks=folder, masks_column="mask")
    with pytest.raises(InputError, match="is a folder, which has no columns"):
        ImageSet(images=folder / "images", boxes_column="boxes").entries()
    with pytest.raises(InputError, match="no column 'boxen'"):
        ImageSet(images=folder / "sheet.tsv", boxes_column="boxen").entries()
    assert not ImageSet(images=folder / "images").has_boxes
