"""Image datasets: folders or sheets of image files, which are read as 8-bit RGB."""

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from preddiff.datasets.annotations import Boxes, match_files, parse_boxes, read_voc
from preddiff.datasets.base import DATASETS, DatasetSettings
from preddiff.datasets.tables import find_column, read_table
from preddiff.errors import InputError
from preddiff.settings.base import Positive

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LAYOUTS = (
    "a sheet of files (.tsv, .csv), a folder with one folder of images per class, or a flat "
    "folder of images"
)
_DEFAULT_CLASS_COLUMN = "class"
_INDEX_COLUMNS = ("class_index", "index")
_ID_COLUMNS = ("wnid", "id", "synset")
_NAME_COLUMNS = ("class_name", "name")
_XML = (".xml",)
# Largest number of image files that Snakemake tracks one by one.
_TRACKED_IMAGES = 10_000


@DATASETS.register
class ImageSet(DatasetSettings):
    """A dataset of image files (`preddiff prepare-images`)."""

    source: ClassVar[str] = "images"
    command: ClassVar[str] = "prepare-images"
    dimensions: ClassVar[int] = 2
    needs_geometry: ClassVar[bool] = True

    images: Path = Field(
        description="a sheet of files (.tsv, .csv), a folder with one folder of images per class "
        "(the layout of ILSVRC), or a flat folder of images"
    )
    file_column: str = Field(
        "file", description="column of the sheet with the paths of the files, relative to the sheet"
    )
    class_column: str = Field(
        _DEFAULT_CLASS_COLUMN,
        description="column of the sheet with the classes, as names, ids or numbers from 0",
    )
    classes: Path | None = Field(
        None,
        description="table of all classes (class_index, wnid, class_name), which assigns numbers "
        "to ids and names; needed if the folders are only some of a network's classes",
    )
    count: Positive | None = Field(
        None, description="number of images, chosen at random; default: all"
    )
    strict: bool = Field(
        False,
        description="stop at an image or an annotation that cannot be read, instead of leaving it "
        "out",
    )
    boxes_column: str | None = Field(
        None,
        description="column of the sheet with the boxes of an image's objects, 'xmin ymin xmax "
        "ymax', several separated by ';', in pixels of the original upright image: counted from 0, "
        "and without the pixels at xmax and ymax; default: no boxes",
    )
    annotations: Path | None = Field(
        None,
        description="folder of XML files with boxes, as those of Pascal VOC and ILSVRC (pixels "
        "counted from 1), named as the images; of objects of several classes, those of the "
        "image's class are used if there are any; default: no boxes",
    )
    masks_column: str | None = Field(
        None,
        description="column of the sheet with masks of an image's objects: image files relative to "
        "the sheet, of the same size as the image, not 0 where an object is; default: no masks",
    )
    masks: Path | None = Field(
        None, description="folder of such masks, named as the images; default: no masks"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ImageSet":
        for one, other in (("boxes_column", "annotations"), ("masks_column", "masks")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"give either {one} or {other}, not both")
        return self

    @property
    def channels(self) -> int:
        """Red, green and blue."""
        return 3

    @property
    def has_boxes(self) -> bool:
        """Whether the sheet or a folder has boxes of objects."""
        return self.boxes_column is not None or self.annotations is not None

    @property
    def has_truth(self) -> bool:
        """Whether the sheet or a folder has masks of objects."""
        return self.masks_column is not None or self.masks is not None

    def entries(self) -> "list[Entry]":
        """All images of the sheet or the folder, with their annotations.

        Raises
        ------
        InputError
            If the images or the annotations cannot be listed.
        """
        found = list_images(
            self.images,
            file_column=self.file_column,
            class_column=self.class_column,
            boxes_column=self.boxes_column,
            masks_column=self.masks_column,
        )
        names = [entry.name for entry in found]
        if self.annotations is not None:
            files = match_files(self.annotations, _XML, names)
            found = [replace(one, xml=file) for one, file in zip(found, files, strict=True)]
        if self.masks is not None:
            files = match_files(self.masks, SUFFIXES, names)
            found = [replace(one, mask=file) for one, file in zip(found, files, strict=True)]
        return found

    def input_files(self) -> list[Path]:
        """List the sheet, the folders, the table of classes, the images and their annotations.

        Images and annotations are not listed if there are too many. Added and removed ones are
        then noticed, but not changed ones.
        """
        given = (self.images, self.classes, self.annotations, self.masks)
        files = [path for path in given if path]
        entries = self.entries()
        if len(entries) <= _TRACKED_IMAGES:
            every = (path for one in entries for path in (one.file, one.xml, one.mask))
            files += [path for path in every if path and path.is_file()]
        return files

    def number_of_items(self) -> int:
        """Number of images, at most `count`."""
        count = len(self.entries())
        return min(count, self.count or count)


@dataclass(frozen=True)
class Entry:
    """An image file of a dataset.

    Attributes
    ----------
    name : str
        Path relative to the sheet or folder.
    file : Path
    label : str
        Class, as given in the sheet or by the name of the folder; "" if unknown.
    boxes : str
        Boxes of its objects, as given in the sheet.
    source : str
        Where the sheet gives them, for error messages.
    xml : Path, optional
        XML file with boxes of its objects.
    mask : Path, optional
        Mask of its objects.
    """

    name: str
    file: Path
    label: str
    boxes: str = ""
    source: str = ""
    xml: Path | None = None
    mask: Path | None = None

    def read_boxes(self) -> Boxes:
        """Read the boxes of its objects; there are none if there is no annotation.

        Raises
        ------
        InputError
            If the annotation is faulty.
        """
        return parse_boxes(self.boxes, self.source) if self.xml is None else read_voc(self.xml)


def plain_name(name: str) -> str:
    """Normalise the name of a class: lower case, and single spaces for spaces and underscores."""
    return " ".join(name.casefold().replace("_", " ").split())


@dataclass(frozen=True)
class Classes:
    """All classes of a dataset, by number.

    Attributes
    ----------
    names : tuple of str
    ids : tuple of str
        WordNet ids or similar; empty if there are none.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        return self._numbered(str)

    @cached_property
    def _numbers_of_plain_names(self) -> dict[str, list[int]]:
        return self._numbered(plain_name)

    def _numbered(self, form: Callable[[str], str]) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for labels in (self.ids, self.names):
            for number, label in enumerate(map(form, labels)):
                if number not in numbers.setdefault(label, []):
                    numbers[label].append(number)
        return numbers

    def index(self, label: str) -> int:
        """Return the number of a class that is given by id, name or number; -1 for "".

        Differences in case, spaces and underscores are ignored, unless classes differ in nothing
        else.

        Raises
        ------
        InputError
            If there is no such class, or more than one of that name.
        """
        if not label:
            return -1
        found = self._numbers.get(label, [])
        if not found and label.isdecimal() and int(label) < len(self.names):
            return int(label)
        found = found or self._numbers_of_plain_names.get(plain_name(label), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"classes {', '.join(map(str, found))} are all called '{label}': give the "
                "number or the id instead"
            )
        near = difflib.get_close_matches(label, self._numbers, n=1, cutoff=0.5)
        hint = f": did you mean '{near[0]}'?" if near else ""
        raise InputError(f"class '{label}' is not among the {len(self.names)} classes{hint}")


def list_images(
    source: Path,
    *,
    file_column: str = "file",
    class_column: str = _DEFAULT_CLASS_COLUMN,
    boxes_column: str | None = None,
    masks_column: str | None = None,
) -> list[Entry]:
    """List the images of a sheet or of a folder.

    Parameters
    ----------
    source : Path
        A sheet (.tsv, .csv) with paths relative to its folder; a folder with one folder per class
        (the layout of ILSVRC); or a flat folder, in which case the classes are unknown.
    file_column, class_column : str
        Columns of the sheet. If it has no column `class`, the classes are unknown.
    boxes_column, masks_column : str, optional
        Columns of the sheet with boxes (see `preddiff.datasets.annotations.parse_boxes`) and masks.

    Returns
    -------
    list of Entry
        In the order of the sheet; images of a folder are sorted by name.

    Raises
    ------
    InputError
        If there are no images, a column is missing, a file is listed twice, or a folder contains
        both images and folders of images, or columns are given for a folder.
    """
    if source.is_file():
        return _entries_of_sheet(source, file_column, class_column, boxes_column, masks_column)
    if source.is_dir():
        if boxes_column or masks_column:
            raise InputError(
                f"{source} is a folder, which has no columns: use annotations or masks instead of "
                "boxes_column or masks_column, or provide a sheet"
            )
        return _entries_of_folder(source)
    raise InputError(f"{source}: no such images: provide {LAYOUTS}")


def _entries_of_sheet(
    path: Path,
    file_column: str,
    class_column: str,
    boxes_column: str | None,
    masks_column: str | None,
) -> list[Entry]:
    table = read_table(path)

    def cells(column: str | None) -> list[str]:
        if column is None:
            return [""] * len(table)
        return [cell.strip() for cell in table[find_column(table, path, column)]]

    has_classes = class_column in table.columns or class_column != _DEFAULT_CLASS_COLUMN
    files, labels = cells(file_column), cells(class_column if has_classes else None)
    boxes, masks = cells(boxes_column), cells(masks_column)
    entries: list[Entry] = []
    seen: set[str] = set()
    for line, file, label, box, mask in zip(table.index, files, labels, boxes, masks, strict=True):
        if not file:
            raise InputError(f"{path}, line {line}: the name of the file is missing")
        name = Path(file).as_posix()
        if name in seen:
            raise InputError(f"{path}, line {line}: '{name}' is listed twice")
        seen.add(name)
        entries.append(
            Entry(
                name,
                path.parent / name,
                label,
                box,
                f"{path}, line {line}",
                mask=path.parent / mask if mask else None,
            )
        )
    if not entries:
        raise InputError(f"{path}: the sheet lists no images")
    return entries


def _entries_of_folder(folder: Path) -> list[Entry]:
    with os.scandir(folder) as found:
        visible = [entry for entry in found if not entry.name.startswith(".")]
    images = sorted(e.name for e in visible if _is_image(e.name) and e.is_file())
    labelled = [
        (label, name)
        for label in sorted(e.name for e in visible if e.is_dir())
        for name in sorted(_images_in(folder / label))
    ]
    if images and labelled:
        raise InputError(
            f"{folder} contains both images and folders of images, so the classes are ambiguous: "
            f"provide {LAYOUTS}"
        )
    if not images and not labelled:
        raise InputError(f"{folder} contains no images: provide {LAYOUTS}")
    flat = [Entry(name, folder / name, "") for name in images]
    return flat or [
        Entry(f"{label}/{name}", folder / label / name, label) for label, name in labelled
    ]


def _images_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.startswith(".") and _is_image(entry.name) and entry.is_file():
                yield entry.name


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def classes_of_folders(entries: Sequence[Entry]) -> Classes:
    """Classes of a folder in the layout of ILSVRC: the names of its folders, in sorted order."""
    return Classes(tuple(sorted({entry.label for entry in entries if entry.label})))


def read_classes(path: Path) -> Classes:
    """Read the names of all classes.

    Parameters
    ----------
    path : Path
        A text file (.txt) with one name per line, or a table (.tsv, .csv) with the columns
        `class_index` (or `index`), `class_name` (or `name`) and optionally `wnid` (or `id`,
        `synset`).

    Raises
    ------
    InputError
        If the file or a column is missing, or the numbers are not 0, 1, 2, ..., each given once.
    """
    if path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
        except FileNotFoundError:
            raise InputError(f"{path}: no such file of classes") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as UTF-8 text: {error}") from None
        if not lines:
            raise InputError(f"{path}: the file lists no classes")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise InputError(
                    f"{path}, line {number}: the name of the class is missing; add it, or remove "
                    "the empty line"
                )
        return Classes(tuple(line.strip() for line in lines))
    table = read_table(path)
    index = find_column(table, path, *_INDEX_COLUMNS)
    name = find_column(table, path, *_NAME_COLUMNS)
    ids = next((column for column in _ID_COLUMNS if column in table.columns), None)
    try:
        numbers = table[index].astype(int)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: column '{index}' must contain numbers only ({error})") from None
    if table.empty:
        raise InputError(f"{path}: the table lists no classes")
    if sorted(numbers) != list(range(len(table))):
        raise InputError(
            f"{path}: column '{index}' must contain each number from 0 to {len(table) - 1} once"
        )
    table = table.iloc[np.argsort(numbers.to_numpy())]
    return Classes(
        tuple(value.strip() for value in table[name]),
        () if ids is None else tuple(value.strip() for value in table[ids]),
    )
