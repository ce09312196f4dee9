"""Annotations: boxes as text and XML, faulty and malicious files, which file is whose."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.datasets.annotations import Boxes, match_files, parse_boxes, read_voc
from preddiff.errors import InputError

OBJECT = (
    "<object><name>{}</name><difficult>1</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
SIZE = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"


def write_xml(path: Path, *parts: str, head: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}<annotation>{''.join(parts)}</annotation>")
    return path


corners = st.tuples(
    st.integers(0, 500), st.integers(0, 500), st.integers(1, 500), st.integers(1, 500)
).map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))


@given(st.lists(corners, max_size=5))
def test_text_and_xml_give_the_same_boxes(tmp_path_factory, boxes) -> None:
    text = ";".join(" ".join(map(str, box)) for box in boxes)
    # Pixels of VOC are counted from 1, and the last is part of the box.
    objects = [OBJECT.format("cat", box[0] + 1, box[1] + 1, box[2], box[3]) for box in boxes]
    xml = read_voc(write_xml(tmp_path_factory.getbasetemp() / "a.xml", *objects))
    for found in (parse_boxes(text, "sheet"), xml):
        assert found.sides.tolist() == [list(map(float, box)) for box in boxes]
        assert found.sides.shape == (len(boxes), 4) and found.sides.dtype == np.float64
    assert xml.labels == ("cat",) * len(boxes) and xml.size is None


def test_spaces_fractions_and_trailing_separators_are_allowed() -> None:
    found = parse_boxes("  1.5 2 3   4 ;\t0 0 1e1 7 ; ", "sheet")
    assert found.sides.tolist() == [[1.5, 2, 3, 4], [0, 0, 10, 7]]
    assert len(parse_boxes("", "sheet").sides) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", r"box 1 \('1 2 3'\) must be four numbers"),
        ("0 0 1 1; 1,2,3,4", r"box 2 \('1,2,3,4'\) must be four numbers"),
        ("0 0 one 1", "box 1: 'one' is not a number"),
        ("0 0 nan 1", "box 1: 'nan' is not a number"),
        ("0 0 inf 1", "box 1: 'inf' is not a number"),
        ("0 0 1 1;5 5 3 9", r"box 2 \(5 5 3 9\) is empty: xmax must be larger than xmin"),
        ("5 5 9 5", r"box 1 \(5 5 9 5\) is empty"),
    ],
)
def test_faulty_text_is_refused_by_its_place(text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^sheet\.tsv, line 3: {message}"):
        parse_boxes(text, "sheet.tsv, line 3")


BILLION_LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not readable as XML"),
        ("<annotation><object>", "not readable as XML"),
        ("<annotation></object>", "not readable as XML"),
        ("no xml", "not readable as XML"),
        ("<a>&entity;</a>", "not readable as XML"),
        ('<?xml version="1.0" encoding="no-such-code"?><a/>', "not readable as XML"),
        ("<a><object/></a>", "object 1 has no bndbox/xmin"),
        ("<a>" + OBJECT.format("cat", 1, 1, 2, "") + "</a>", "object 1 has no bndbox/ymax"),
        ("<a>" + OBJECT.format("cat", 1, 1, "two", 2) + "</a>", "box 1: 'two' is not a number"),
        ("<a>" + OBJECT.format("cat", 3, 1, 2, 2) + "</a>", r"box 1 \(2 0 2 2\) is empty"),
        (f"{BILLION_LAUGHS}<a>&c;</a>", "document type"),
        ("<!DOCTYPE a><a/>", "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hosts">]><a>&b;</a>', "document type"),
        ('<!DOCTYPE a [<!ENTITY % b SYSTEM "http://localhost/x">%b;]><a/>', "document type"),
    ],
)
def test_faulty_and_malicious_xml_is_refused_by_name(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"bad\.xml.*{message}"):
        read_voc(path)


def test_missing_xml_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.xml: no such annotation"):
        read_voc(tmp_path / "absent.xml")
    with pytest.raises(InputError, match="not readable as XML"):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(500, 375, (375, 500)), (0, 0, None), ("", "", None), ("9" * 5000, 2, None)],
)
def test_size_of_the_image(tmp_path: Path, width, height, size) -> None:
    assert read_voc(write_xml(tmp_path / "a.xml", SIZE.format(width, height))).size == size


def test_boxes_of_the_class_are_preferred() -> None:
    boxes = Boxes(np.arange(12.0).reshape(3, 4), ("cat", "dog", "cat"), (5, 6), "a.xml")
    cats = boxes.of_class(lambda label: label == "cat")
    assert cats.labels == ("cat", "cat") and cats.sides.tolist() == boxes.sides[::2].tolist()
    assert (cats.size, cats.source) == (boxes.size, boxes.source)
    assert boxes.of_class(lambda label: label == "cow") is boxes
    plain = parse_boxes("0 0 1 1", "sheet")
    assert plain.of_class(lambda label: True) is plain


def test_annotations_of_another_image_are_refused(tmp_path: Path) -> None:
    one = OBJECT.format("cat", 1, 1, 40, 30)
    boxes = read_voc(write_xml(tmp_path / "a.xml", SIZE.format(40, 30), one))
    boxes.check((30, 40))
    # As for images that are turned by their EXIF orientation, if annotations are not.
    with pytest.raises(InputError, match=r"a\.xml: .* of 40 x 30 pixels, but .* has 30 x 40"):
        boxes.check((40, 30))


@pytest.mark.parametrize("box", ["-2 0 5 5", "0 -3 5 5", "0 0 42 5", "0 0 5 31.5", "50 50 60 60"])
def test_boxes_beyond_the_image_are_refused(box: str) -> None:
    with pytest.raises(InputError, match=r"sheet: box 2 \(.*\) reaches beyond .* 40 x 30 pixels"):
        parse_boxes(f"0 0 1 1; {box}", "sheet").check((30, 40))


def test_a_pixel_beyond_the_image_is_forgiven() -> None:
    parse_boxes("-1 -1 41 31", "sheet").check((30, 40))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def matched(folder: Path, *images: str) -> list[str | None]:
    found = match_files(folder, (".xml", ".png"), images)
    return [None if path is None else path.relative_to(folder).as_posix() for path in found]


def test_files_are_matched_by_path_and_then_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.xml", "dog/1.xml", "3.XML", "val/deep/4.png", "1.txt", ".5.xml")
    assert matched(tmp_path, "cat/1.JPEG", "dog/1.jpg", "dog/3.jpg", "a/b/4.webp", "5.jpg") == [
        "cat/1.xml",
        "dog/1.xml",
        "3.XML",
        "val/deep/4.png",
        None,
    ]
    assert matched(tmp_path) == []


def test_names_may_contain_points(tmp_path: Path) -> None:
    touch(tmp_path, "a.b.xml", "a.xml")
    assert matched(tmp_path, "a.b.jpg", "a.jpg") == ["a.b.xml", "a.xml"]


def test_ambiguous_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of annotations"):
        matched(tmp_path / "nowhere")
    touch(tmp_path, "cat/1.xml", "dog/1.xml", "2.xml", "2.png", "3.xml")
    with pytest.raises(
        InputError, match=r"cat/1\.xml and dog/1\.xml both belong to image '1\.jpg'"
    ):
        matched(tmp_path, "1.jpg")
    with pytest.raises(InputError, match=r"2\.png and 2\.xml both belong to image 'a/2\.jpg'"):
        matched(tmp_path, "a/2.jpg")
    with pytest.raises(InputError, match=r"3\.xml belongs to both image 'a/3\.jpg' and image 'b/3"):
        matched(tmp_path, "a/3.jpg", "b/3.jpg")
