"""Image datasets: folders or sheets of image files, which are read as 8-bit RGB."""

import difflib
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

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
# Largest number of image files that Snakemake tracks one by one.
_TRACKED_IMAGES = 10_000
# EXIF's tag of the orientation; 1 is upright.
_ORIENTATION = 0x0112


@DATASETS.register
class ImageSet(DatasetSettings):
    """A dataset of image files (`preddiff prepare-images`)."""

    source: ClassVar[str] = "images"
    command: ClassVar[str] = "prepare-images"
    dimensions: ClassVar[int] = 2
    channels: ClassVar[int] = 3
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
        False, description="stop at an image that cannot be read, instead of leaving it out"
    )

    def entries(self) -> "list[Entry]":
        """All images of the sheet or the folder."""
        return list_images(
            self.images, file_column=self.file_column, class_column=self.class_column
        )

    def input_files(self) -> list[Path]:
        """List the sheet or folder, the table of classes, and the images unless they are too many.

        If the images are not listed, added and removed ones are noticed, but not changed ones.
        """
        files = [path for path in (self.images, self.classes) if path]
        images = [entry.file for entry in self.entries()]
        if len(images) <= _TRACKED_IMAGES:
            files += [path for path in images if path.is_file()]
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
    """

    name: str
    file: Path
    label: str


@dataclass(frozen=True)
class Picture:
    """An image that was read from a file.

    Attributes
    ----------
    pixels : uint8 array (3, height, width)
    note : str
        Which conversions were necessary; "" for upright RGB images.
    """

    pixels: NDArray[np.uint8]
    note: str


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
    source: Path, *, file_column: str = "file", class_column: str = _DEFAULT_CLASS_COLUMN
) -> list[Entry]:
    """List the images of a sheet or of a folder.

    Parameters
    ----------
    source : Path
        A sheet (.tsv, .csv) with paths relative to its folder; a folder with one folder per class
        (the layout of ILSVRC); or a flat folder, in which case the classes are unknown.
    file_column, class_column : str
        Columns of the sheet. If it has no column `class`, the classes are unknown.

    Returns
    -------
    list of Entry
        In the order of the sheet; images of a folder are sorted by name.

    Raises
    ------
    InputError
        If there are no images, a column is missing, a file is listed twice, or a folder contains
        both images and folders of images.
    """
    if source.is_file():
        return _entries_of_sheet(source, file_column, class_column)
    if source.is_dir():
        return _entries_of_folder(source)
    raise InputError(f"{source}: no such images: provide {LAYOUTS}")


def _entries_of_sheet(path: Path, file_column: str, class_column: str) -> list[Entry]:
    table = read_table(path)
    files = table[find_column(table, path, file_column)]
    has_classes = class_column in table.columns or class_column != _DEFAULT_CLASS_COLUMN
    labels = table[find_column(table, path, class_column)] if has_classes else [""] * len(table)
    entries: list[Entry] = []
    seen: set[str] = set()
    for line, file, label in zip(table.index, files, labels, strict=True):
        if not file.strip():
            raise InputError(f"{path}, line {line}: the name of the file is missing")
        name = Path(file.strip()).as_posix()
        if name in seen:
            raise InputError(f"{path}, line {line}: '{name}' is listed twice")
        seen.add(name)
        entries.append(Entry(name, path.parent / name, label.strip()))
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


def read_image(path: Path, *, resize: int | None, crop: tuple[int, int] | int | None) -> Picture:
    """Read an image as 8-bit RGB: upright, resized and cropped as in torchvision's presets.

    Parameters
    ----------
    path : Path
    resize : int, optional
        Length of the shorter side after resizing (bilinear, with antialiasing), in pixels; by
        default the image is not resized.
    crop : int or (int, int), optional
        Side of the central square, or height and width of the central rectangle, that is cut out;
        by default the image is not cropped.

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, or suspiciously large.
    """
    # torchvision is imported where it is needed, since that takes seconds.
    from torchvision.transforms.v2 import functional

    try:
        with warnings.catch_warnings():
            # By default, Pillow only warns about files that unpack to an unreasonable size.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                rgb, note = _to_rgb(image)
        if resize is not None:
            rgb = functional.resize(rgb, [resize])
        if crop is not None:
            rgb = functional.center_crop(rgb, [crop, crop] if isinstance(crop, int) else list(crop))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: the image is too large ({error})") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error) as error:
        raise InputError(f"{path}: not readable as an image, or truncated ({error})") from None
    return Picture(np.ascontiguousarray(np.moveaxis(np.asarray(rgb), -1, 0)), note)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    mode = image.mode
    upright = ImageOps.exif_transpose(image)
    if orientation in range(2, 9):
        notes.append("turned by its EXIF orientation")
    if mode == "RGB":
        return upright, "; ".join(notes)
    notes.append(f"converted from {_MODES.get(mode, mode)}")
    return _convert(upright), "; ".join(notes)


_MODES = {"L": "grey", "LA": "grey with alpha", "RGBA": "RGB with alpha", "P": "a palette"}
_MODES |= {"1": "black and white", "I": "16 bits", "F": "floating point"}


def _convert(image: Image.Image) -> Image.Image:
    """Convert to RGB as Pillow does, except for modes where Pillow loses what the image shows."""
    if image.mode.startswith("I"):
        # Pillow would clip to 255 values that range from 0 to 65535 in this mode.
        values = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it contains values that are NaN or infinite")
        span = float(np.ptp(values)) or 1.0
        image = Image.fromarray(np.round((values - values.min()) / span * 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
