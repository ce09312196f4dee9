"""Reading image files: layouts of folders and sheets, colour modes, orientation, damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.v2 import functional

from preddiff.datasets.images import Classes, classes_of_folders, list_images, read_classes
from preddiff.datasets.images import read_image as read
from preddiff.errors import InputError

GENERATOR = np.random.default_rng(0)
RGB = GENERATOR.integers(0, 256, (30, 40, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = RGB, mode: str | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def test_plain_images_are_read_as_they_are(tmp_path: Path) -> None:
    picture = read(save(tmp_path / "a.png"), resize=None, crop=None)
    assert np.array_equal(picture.pixels, np.moveaxis(RGB, -1, 0))
    assert picture.note == ""


@pytest.mark.parametrize(("size", "resize", "crop"), [((300, 400), 256, 224), ((90, 70), 40, 32)])
def test_geometry_is_that_of_torchvisions_preset(tmp_path: Path, size, resize, crop) -> None:
    pixels = GENERATOR.integers(0, 256, (*size, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", pixels)
    preset = ImageClassification(crop_size=crop, resize_size=resize, mean=(0,) * 3, std=(1,) * 3)
    expected = preset(Image.open(path)).numpy() * 255
    picture = read(path, resize=resize, crop=crop)
    assert picture.pixels.shape == (3, crop, crop)
    assert np.allclose(picture.pixels, expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA"])
def test_other_modes_are_converted_and_noted(tmp_path: Path, mode: str) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    path = save(tmp_path / f"a{suffix}", mode=mode)
    picture = read(path, resize=None, crop=None)
    assert "converted from" in picture.note
    expected = Image.open(path).convert("RGB")
    assert np.array_equal(picture.pixels, np.moveaxis(np.asarray(expected), -1, 0))


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[0, :, 3] = 255
    picture = read(save(tmp_path / "a.png", pixels), resize=None, crop=None)
    assert (picture.pixels[:, 0] == 0).all() and (picture.pixels[:, 1:] == 255).all()


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = (np.arange(20 * 30).reshape(20, 30) * 109).astype(np.uint16)
    picture = read(save(tmp_path / "a.png", values), resize=None, crop=None)
    assert np.abs(picture.pixels - values / 257).max() <= 0.5
    assert "converted" in picture.note


@pytest.mark.parametrize(("orientation", "turn"), [(0, 0), (1, 0), (3, 2), (6, 3), (8, 1), (9, 0)])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(save(tmp_path / "a.png", exif=exif), resize=None, crop=None)
    assert np.array_equal(np.moveaxis(picture.pixels, 0, -1), np.rot90(RGB, turn))
    assert ("EXIF" in picture.note) == (turn != 0)


@pytest.mark.parametrize(("orientation", "turn"), [(2, 0), (4, 2), (5, 3), (7, 1)])
def test_mirrored_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(save(tmp_path / "a.png", exif=exif), resize=None, crop=None)
    assert np.array_equal(np.moveaxis(picture.pixels, 0, -1), np.fliplr(np.rot90(RGB, turn)))
    assert "EXIF" in picture.note


def test_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture = read(tmp_path / "a.gif", resize=None, crop=None)
    assert (picture.pixels[0] == 255).all() and (picture.pixels[2] == 0).all()
    assert "first of 2 frames" in picture.note


@pytest.mark.parametrize("fault", ["missing", "truncated", "text", "empty", "bomb"])
def test_bad_files_are_refused_by_name(tmp_path: Path, fault: str, monkeypatch) -> None:
    path = save(tmp_path / "bad.png", GENERATOR.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:4000])
    elif fault == "text":
        path.write_text("not an image")
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"bad\.png"):
        read(path, resize=None, crop=None)


def test_layouts(tmp_path: Path) -> None:
    for name in ("cat/b.JPEG", "cat/a.png", "dog/c.jpg", "cat/.hidden.png"):
        save(tmp_path / "classes" / name, format="JPEG" if "J" in name else None)
    (tmp_path / "classes/cat/notes.txt").write_text("")
    found = list_images(tmp_path / "classes")
    assert [(e.name, e.label) for e in found] == [
        ("cat/a.png", "cat"),
        ("cat/b.JPEG", "cat"),
        ("dog/c.jpg", "dog"),
    ]
    assert classes_of_folders(found).names == ("cat", "dog")
    flat = list_images(tmp_path / "classes/cat")
    assert [(e.name, e.label) for e in flat] == [("a.png", ""), ("b.JPEG", "")]
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("file,class,other\nclasses/dog/c.jpg,dog,x\nclasses/cat/a.png,cat,y\n")
    assert [(e.name, e.label) for e in list_images(sheet)] == [
        ("classes/dog/c.jpg", "dog"),
        ("classes/cat/a.png", "cat"),
    ]
    assert list_images(sheet, class_column="other")[0].label == "x"
    assert list_images(sheet)[0].file == tmp_path / "classes/dog/c.jpg"


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("path\tclass\na.png\t1\n", "there is no column 'file'"),
        ("file\na.png\na.png\n", "line 3: 'a.png' is listed twice"),
        ("file\tclass\n\t1\n", "line 2: the name of the file is missing"),
        ("file\n", "lists no images"),
        ("file\na.png\n./a.png\n", "line 3: 'a.png' is listed twice"),
        ("file\tclass\na.png\t1\n\nb.png\t1\n", "line 3: the name of the file is missing"),
        ("file\na.png\n\nb.png\n", "line 3: the name of the file is missing"),
        ("file\tclass\na.png\tcat\t\nb.png\tdog\t\n", "more cells than the header"),
    ],
)
def test_bad_sheets_are_refused(tmp_path: Path, sheet: str, message: str) -> None:
    path = tmp_path / "sheet.tsv"
    path.write_text(sheet)
    with pytest.raises(InputError, match=message):
        list_images(path)


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one folder of images per class"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="contains no images"):
        list_images(tmp_path)
    save(tmp_path / "a.png")
    save(tmp_path / "cat/b.png")
    with pytest.raises(InputError, match="both images and folders"):
        list_images(tmp_path)


def test_classes_by_name_id_and_number(tmp_path: Path) -> None:
    path = tmp_path / "classes.tsv"
    path.write_text("class_index\twnid\tclass_name\n1\tn2\tcrane\n0\tn1\ttench\n2\tn3\tcrane\n")
    classes = read_classes(path)
    assert classes.names == ("tench", "crane", "crane")
    assert [classes.index(label) for label in ("tench", "n3", "1", "")] == [0, 2, 1, -1]
    with pytest.raises(InputError, match="1, 2 are all called 'crane'"):
        classes.index("crane")
    with pytest.raises(InputError, match="did you mean 'tench'"):
        classes.index("tentch")
    with pytest.raises(InputError, match="not among the 3"):
        classes.index("3")


def test_classes_by_another_spelling() -> None:
    classes = Classes(("tabby_cat", "Crane", "crane", "red fox"))
    assert [classes.index(label) for label in ("Tabby cat", "crane", "RED__FOX")] == [0, 2, 3]
    with pytest.raises(InputError, match="1, 2 are all called 'CRANE'"):
        classes.index("CRANE")


def test_bad_tables_of_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.tsv"
    path.write_text("class_index\tclass_name\n0\ta\n2\tb\n")
    with pytest.raises(InputError, match="each number from 0 to 1 once"):
        read_classes(path)
    path.write_text("number\tclass_name\n0\ta\n")
    with pytest.raises(InputError, match="no column 'class_index'"):
        read_classes(path)
    assert Classes(("a", "b")).index("b") == 1


@pytest.mark.parametrize("resize", [None, 20])
@pytest.mark.parametrize("crop", [None, 16, (8, 12), (12, 50)])
def test_geometry_of_jpegs_with_any_crop(tmp_path: Path, resize, crop) -> None:
    path = save(tmp_path / "a.jpg")
    expected = Image.open(path)
    if resize is not None:
        expected = functional.resize(expected, [resize])
    if crop is not None:
        expected = functional.center_crop(expected, crop)
    picture = read(path, resize=resize, crop=crop)
    assert np.array_equal(picture.pixels, np.moveaxis(np.asarray(expected), -1, 0))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_tiffs_keep_their_range(tmp_path: Path, dtype: type) -> None:
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(dtype)
    picture = read(save(tmp_path / "a.tif", values), resize=None, crop=None)
    assert np.abs(picture.pixels - values.astype(np.float64) / 257).max() <= 0.5
    assert "converted" in picture.note


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "bad.tif", np.array([[0, np.nan, 1]], dtype=np.float32))
    with pytest.raises(InputError, match=r"bad\.tif.*NaN"):
        read(path, resize=None, crop=None)


def test_tiff_with_a_damaged_second_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    frame = Image.fromarray(RGB)
    frame.save(path, save_all=True, append_images=[frame])
    content = path.read_bytes()
    height = b"\x01\x01\x04\x00" if content[:2] == b"II" else b"\x01\x01\x00\x04"
    at = content.rindex(height)
    assert content.index(height) < at
    path.write_bytes(content[:at] + b"\xff\xff" + content[at + 2 :])
    with pytest.raises(InputError, match=r"bad\.tif"):
        read(path, resize=None, crop=None)


def test_sheets_with_uppercase_suffix_and_trailing_lines(tmp_path: Path) -> None:
    path = tmp_path / "sheet.CSV"
    path.write_text("file,class\nb.png,cat\n\n\n")
    assert [(e.name, e.label) for e in list_images(path)] == [("b.png", "cat")]
    with pytest.raises(InputError, match="no column 'kind'; it has file, class"):
        list_images(path, class_column="kind")


def test_folders_named_like_images_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "cat/a.png")
    (tmp_path / "cat/b.png").mkdir()
    assert [e.name for e in list_images(tmp_path)] == ["cat/a.png"]


def test_flat_folders_have_no_classes(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    assert classes_of_folders(list_images(tmp_path)).names == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", b"", "lists no classes"),
        ("c.txt", b"a\n\nb\n", "line 2: the name of the class is missing"),
        ("c.txt", b"\xff\xe9\n", "not readable"),
        ("c.tsv", b"index\tname\n", "lists no classes"),
        ("c.tsv", b"index\tname\n" + b"9" * 30 + b"\ta\n", "must contain numbers only"),
    ],
)
def test_bad_files_of_classes_are_refused(tmp_path: Path, name, text, message) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path / name)


@pytest.mark.parametrize("name", ["c.txt", "c.tsv"])
def test_a_folder_or_nothing_is_no_file_of_classes(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such"):
        read_classes(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="not readable"):
        read_classes(tmp_path / name)


def test_names_of_classes_are_stripped(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(" a \nb\n\n")
    (tmp_path / "c.tsv").write_text("index\tid\tname\n1\tn1\tb\n0\t n0 \t a \n")
    assert read_classes(tmp_path / "c.txt").names == ("a", "b")
    assert read_classes(tmp_path / "c.tsv") == Classes(("a", "b"), ("n0", "n1"))
