"""Datasets of images: layouts of folders and sheets, annotations, names of classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preddiff.datasets.images import Classes, classes_of_folders, list_images, read_classes
from preddiff.errors import InputError

GENERATOR = np.random.default_rng(0)
RGB = GENERATOR.integers(0, 256, (30, 40, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = RGB, mode: str | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


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
