"""Annotations of images: boxes of objects as text or XML files, and files that belong to images."""

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from preddiff.datasets.pictures import Size
from preddiff.errors import InputError
from preddiff.windows import FloatArray

# Sides of a box, in the order in which they are written and stored.
SIDES = ("xmin", "ymin", "xmax", "ymax")
# By how many pixels a box may reach beyond its image: files that count from 0 and from 1 are mixed.
_BEYOND = 1.0


@dataclass(frozen=True)
class Boxes:
    """The boxes of the objects of an image.

    Attributes
    ----------
    sides : float64 array (boxes, 4)
        xmin, ymin, xmax, ymax, in pixels of the upright image: from 0, and without the pixels at
        xmax and ymax.
    labels : tuple of str
        Classes of the objects; empty if they are unknown.
    size : (int, int), optional
        Height and width of the image, if the annotation contains them.
    source : str
        The file, or the cell of a sheet, that contains the boxes.
    """

    sides: FloatArray
    labels: tuple[str, ...] = ()
    size: Size | None = None
    source: str = ""

    @classmethod
    def none(cls) -> "Boxes":
        """No boxes."""
        return cls(np.empty((0, len(SIDES))))

    def of_class(self, same: Callable[[str], bool]) -> "Boxes":
        """Return the boxes of one class only, if there are any of it; all boxes otherwise.

        Parameters
        ----------
        same : callable
            Whether a label is of the class.
        """
        chosen = [same(label) for label in self.labels]
        if not any(chosen):
            return self
        labels = tuple(label for label, one in zip(self.labels, chosen, strict=True) if one)
        return Boxes(self.sides[chosen], labels, self.size, self.source)

    def check(self, size: Size) -> None:
        """Check that the boxes can be of an image of this height and width.

        Raises
        ------
        InputError
            If the annotation is of an image of another size, or a box reaches beyond the image.
        """
        height, width = size
        if self.size not in (None, size):
            assert self.size is not None
            raise InputError(
                f"{self.source}: the annotation is of an image of {self.size[1]} x {self.size[0]} "
                f"pixels, but the upright image has {width} x {height}"
            )
        low, high = self.sides[:, :2], self.sides[:, 2:]
        beyond = (low < -_BEYOND).any(axis=1) | (high > np.array([width, height]) + _BEYOND).any(1)
        if beyond.any():
            number = int(np.argmax(beyond))
            raise InputError(
                f"{self.source}: box {number + 1} ({written(self.sides[number])}) reaches beyond "
                f"the image of {width} x {height} pixels"
            )


def written(sides: Iterable[float]) -> str:
    """Write the sides of a box as text."""
    return " ".join(f"{side:g}" for side in sides)


def parse_boxes(text: str, source: str) -> Boxes:
    """Read the boxes of an image from a cell of a sheet.

    Parameters
    ----------
    text : str
        `xmin ymin xmax ymax` of each box, boxes separated by `;`, in pixels of the upright image:
        counted from 0, and without the pixels at xmax and ymax, so that 0 0 1 1 is the first pixel.
        Empty if there are none.
    source : str
        Where the text is from, for error messages.

    Raises
    ------
    InputError
        If a box is not four numbers, or is empty.
    """
    parts = [part.split() for part in text.split(";") if part.strip()]
    rows = []
    for number, part in enumerate(parts, start=1):
        if len(part) != len(SIDES):
            raise InputError(
                f"{source}: box {number} ('{' '.join(part)}') must be four numbers, "
                f"'{' '.join(SIDES)}'; separate boxes by ';'"
            )
        rows.append([_number(value, source, number) for value in part])
    return Boxes(_checked(rows, source), source=source)


def read_voc(path: Path) -> Boxes:
    """Read the boxes of an image from an XML file of Pascal VOC or ILSVRC.

    In these files, pixels are counted from 1 and those at xmax and ymax belong to the box; both are
    converted. All objects count, those that are marked as difficult too. (Some files of ILSVRC
    count from 0: their boxes are then off by one pixel, which is less than they are exact.)

    Raises
    ------
    InputError
        If the file is missing, is not XML or contains a document type (which could define entities
        or refer to other files), or if a box is incomplete or empty.
    """
    root = _parse_xml(path)
    objects = root.findall("object")
    rows, labels = [], []
    for number, one in enumerate(objects, start=1):
        texts = [(one.findtext(f"bndbox/{side}") or "").strip() for side in SIDES]
        if "" in texts:
            missing = SIDES[texts.index("")]
            raise InputError(f"{path}: object {number} has no bndbox/{missing}")
        xmin, ymin, xmax, ymax = (_number(text, str(path), number) for text in texts)
        rows.append([xmin - 1, ymin - 1, xmax, ymax])
        labels.append((one.findtext("name") or "").strip())
    size = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    # Some files contain zeros instead of the size.
    known = all(re.fullmatch(r"\s*[1-9][0-9]{0,8}\s*", text) for text in size)
    return Boxes(
        _checked(rows, str(path)),
        tuple(labels),
        (int(size[0]), int(size[1])) if known else None,
        str(path),
    )


def _parse_xml(path: Path) -> ElementTree.Element:
    """Parse an XML file without a document type, and so without entities and references."""

    def refuse(*_: object) -> None:
        raise InputError(
            f"{path}: XML files with a document type (<!DOCTYPE ...>) are not read, since it could "
            "define entities or refer to other files: remove it"
        )

    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation") from None
    except (OSError, expat.ExpatError, LookupError, ValueError) as error:
        raise InputError(f"{path}: not readable as XML ({error})") from None


def _number(text: str, source: str, box: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{source}: box {box}: '{text}' is not a number")
    return value


def _checked(rows: Sequence[Sequence[float]], source: str) -> FloatArray:
    sides = np.array(rows, dtype=np.float64).reshape(-1, len(SIDES))
    empty = (sides[:, :2] >= sides[:, 2:]).any(axis=1)
    if empty.any():
        number = int(np.argmax(empty))
        raise InputError(
            f"{source}: box {number + 1} ({written(sides[number])}) is empty: xmax must be larger "
            "than xmin, and ymax larger than ymin; they are positions, not width and height"
        )
    return sides


def match_files(folder: Path, suffixes: Sequence[str], images: Sequence[str]) -> list[Path | None]:
    """Find the file that belongs to each image, by its name without suffix.

    A file belongs to an image if it has the same path relative to its folder (`cat/1.xml` to
    `cat/1.jpg`) or, if there is none, the same name at any depth (`a/b/1.xml`).

    Parameters
    ----------
    folder : Path
    suffixes : sequence of str
        Suffixes of the files that are looked at, in lower case.
    images : sequence of str
        Paths of the images, relative to their sheet or folder.

    Returns
    -------
    list of Path or None
        None for images without a file.

    Raises
    ------
    InputError
        If there is no such folder, more than one file belongs to an image, or a file to more than
        one image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of annotations")
    by_path, by_name = _index(folder, suffixes)
    found: list[Path | None] = []
    owners: dict[Path, str] = {}
    for image in images:
        plain = PurePath(image).with_suffix("")
        files = by_path.get(plain.as_posix()) or by_name.get(plain.name, [])
        if len(files) > 1:
            raise InputError(
                f"{folder}: {files[0].relative_to(folder)} and {files[1].relative_to(folder)} both "
                f"belong to image '{image}': remove or rename one"
            )
        if files:
            other = owners.setdefault(files[0], image)
            if other != image:
                raise InputError(
                    f"{files[0]} belongs to both image '{other}' and image '{image}': put the "
                    "annotations into folders like those of the images"
                )
        found.append(files[0] if files else None)
    return found


def _index(
    folder: Path, suffixes: Sequence[str]
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Files of a folder by their relative paths, and by their names, both without suffix."""
    by_path: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(tuple(suffixes)) and not name.startswith("."):
                file = Path(place, name)
                plain = file.relative_to(folder).with_suffix("")
                by_path.setdefault(plain.as_posix(), []).append(file)
                by_name.setdefault(plain.name, []).append(file)
    return by_path, by_name
