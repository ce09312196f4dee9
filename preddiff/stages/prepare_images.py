"""Stages prepare-images and prepare-digits: image files, or the digits, become a data store."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from preddiff.datasets.digits import LEVELS, read_digits
from preddiff.datasets.images import (
    Classes,
    Entry,
    Picture,
    classes_of_folders,
    list_images,
    read_classes,
    read_image,
)
from preddiff.datasets.items import SCALE
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.settings.study import DigitSettings, Geometry, ImageSet
from preddiff.storage.files import replace_folder, write_atomically
from preddiff.storage.provenance import digest_arrays
from preddiff.storage.stores import Variable, array, axes, create, update_attributes

# Files that are read ahead of the one that is written, which bounds memory.
_AHEAD = 64


def prepare_images(
    settings: ImageSet, geometry: Geometry, seed: int, threads: int, out: Path, report: Path
) -> None:
    """Read image files, resize and cut them, and write them as a Zarr store of 8-bit pixels.

    The store holds `intensity` (item, channel, y, x), from 0 to 1 once its scale is applied, one
    chunk per item, and each item's class and digest.

    Parameters
    ----------
    settings : ImageSet
    geometry : Geometry
    seed : int
        Seed of the choice, where `count` asks for some of the images.
    threads : int
        Files that are decoded at the same time.
    out : Path
        Store to write, which appears when complete.
    report : Path
        Table to write of the images that were converted or left out, and why.

    Raises
    ------
    InputError
        If no image can be read, or, with `strict`, if one cannot.
    """
    if geometry.crop is None:
        raise InputError("crop is missing: all inputs of a network are of one size")
    entries = list_images(
        settings.images, file_column=settings.file_column, class_column=settings.class_column
    )
    classes = _classes(settings, entries)
    entries = _chosen(entries, settings.count, seed)
    notes: list[dict[str, str]] = []
    with replace_folder(out) as folder:
        _create(folder, (len(entries), 3, geometry.crop, geometry.crop), 1 / 255)
        stored = array(zarr.open_group(folder, mode="r+", use_consolidated=False), "intensity")
        kept: list[Entry] = []
        digests: list[str] = []
        pictures = _read_all(entries, geometry, threads)
        for entry, picture in progress(pictures, total=len(entries), desc="prepare", unit="image"):
            if isinstance(picture, InputError):
                if settings.strict:
                    raise picture
                notes.append({"image": entry.name, "done": "left out", "reason": str(picture)})
                continue
            if picture.note:
                notes.append({"image": entry.name, "done": "converted", "reason": picture.note})
            stored[len(kept)] = picture.pixels
            digests.append(digest_arrays(picture.pixels))
            kept.append(entry)
        if not kept:
            raise InputError(
                f"{settings.images}: none of its images can be read: {notes[0]['reason']}"
            )
        _finish(
            folder,
            names=[entry.name for entry in kept],
            groups=[entry.label for entry in kept],
            numbers=_numbers(kept, classes),
            training=np.ones(len(kept), dtype=bool),
            digests=digests,
            classes=() if classes is None else classes.names,
            provenance={
                "images": settings.model_dump(mode="json"),
                "geometry": geometry.model_dump(mode="json"),
            },
        )
    left_out = sum(note["done"] == "left out" for note in notes)
    if left_out:
        print(f"{left_out} of {len(entries)} images are left out: see {report}", file=sys.stderr)
    with write_atomically(report) as temporary:
        table = pd.DataFrame(notes, columns=["image", "done", "reason"])
        table.to_csv(temporary, sep="\t", index=False)


def prepare_digits(settings: DigitSettings, seed: int, out: Path) -> None:
    """Write scikit-learn's digits as a Zarr store; test items are those that are not for training.

    Parameters
    ----------
    settings : DigitSettings
    seed : int
        Seed of the division into training and test items.
    out : Path
    """
    images, labels, training = read_digits(settings.test, seed)
    with replace_folder(out) as folder:
        _create(folder, images.shape, 1 / LEVELS)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        array(group, "intensity")[:] = images
        _finish(
            folder,
            names=[f"digit-{number:04d}" for number in range(len(images))],
            groups=[str(label) for label in labels],
            numbers=labels,
            training=training,
            digests=[digest_arrays(image) for image in images],
            classes=tuple(str(digit) for digit in range(10)),
            provenance={"digits": settings.model_dump(mode="json"), "seed": seed},
        )


def _classes(settings: ImageSet, entries: Sequence[Entry]) -> Classes | None:
    if settings.classes is not None:
        return read_classes(settings.classes)
    if settings.images.is_dir() and entries[0].label:
        return classes_of_folders(entries)
    return None


def _numbers(entries: Sequence[Entry], classes: Classes | None) -> NDArray[np.int64]:
    """Numbers of the entries' classes; without names of classes, labels may be numbers."""
    if classes is not None:
        return np.array([classes.index(entry.label) for entry in entries])
    return np.array([int(e.label) if e.label.isdecimal() else -1 for e in entries])


def _chosen(entries: list[Entry], count: int | None, seed: int) -> list[Entry]:
    if count is None or count >= len(entries):
        return entries
    numbers = np.random.default_rng(seed).choice(len(entries), count, replace=False)
    return [entries[number] for number in np.sort(numbers)]


def _read_all(
    entries: Sequence[Entry], geometry: Geometry, threads: int
) -> Iterator[tuple[Entry, Picture | InputError]]:
    """Read files in order, several at a time and not far ahead of the one that is asked for."""

    def read(entry: Entry) -> tuple[Entry, Picture | InputError]:
        try:
            return entry, read_image(entry.file, resize=geometry.resize, crop=geometry.crop)
        except InputError as error:
            return entry, error

    with ThreadPoolExecutor(threads) as pool:
        left = iter(entries)
        while batch := list(islice(left, _AHEAD)):
            yield from pool.map(read, batch)


def _create(folder: Path, shape: tuple[int, ...], scale: float) -> None:
    """Arrays for as many items as there may be; `_finish` cuts them to those that there are."""
    items, channels, *space = shape
    names = axes(len(space))
    create(
        folder,
        {
            "intensity": Variable(
                ("item", "channel", *names),
                shape,
                (1, channels, *space),
                {"long_name": "pixel values, from 0 to 1", SCALE: scale},
                dtype="uint8",
            )
        },
        {
            "item": ("item", np.array([""] * items)),
            "group": ("item", np.array([""] * items)),
            "class_number": ("item", np.zeros(items, dtype=np.int64)),
            "training": ("item", np.zeros(items, dtype=bool)),
            "digest": ("item", np.array([""] * items)),
            **{axis: (axis, np.arange(n)) for axis, n in zip(names, space, strict=True)},
        },
        {},
    )


def _finish(
    folder: Path,
    *,
    names: Sequence[str],
    groups: Sequence[str],
    numbers: NDArray[np.integer],
    training: NDArray[np.bool_],
    digests: Sequence[str],
    classes: Sequence[str],
    provenance: dict[str, object],
) -> None:
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    columns = {
        "item": names,
        "group": groups,
        "class_number": numbers,
        "training": training,
        "digest": digests,
    }
    for name, values in columns.items():
        column = array(group, name)
        column.resize((len(names),))
        column[:] = np.asarray(values, dtype=column.dtype)
    intensity = array(group, "intensity")
    intensity.resize((len(names), *intensity.shape[1:]))
    update_attributes(folder, {"classes": list(classes), "provenance": provenance})
