"""Stage prepare-images: read image files and write them as a Zarr store."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from pydantic import Field

from preddiff.datasets.base import Geometry
from preddiff.datasets.image_store import create_image_store, finish_image_store
from preddiff.datasets.images import (
    Classes,
    Entry,
    ImageSet,
    Picture,
    classes_of_folders,
    list_images,
    read_classes,
    read_image,
)
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.settings.base import Settings
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings
from preddiff.storage.files import replace_folder
from preddiff.storage.provenance import digest_arrays
from preddiff.storage.stores import array
from preddiff.storage.writers import write_tsv

# Number of files that are read ahead, which limits memory.
_AHEAD = 64


class ImagesOfOneSize(Settings):
    """Which images are read, and how they are resized and cropped."""

    images: ImageSet = Field(description="which images are read")
    geometry: Geometry = Field(Geometry(), description="how they are resized and cropped")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, ImagesOfOneSize)
    add_path(parser, "--out", "data store to write")
    add_path(parser, "--report", "table to write, of images that were converted or left out")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the store and the table."""
    settings = read_settings(arguments, ImagesOfOneSize)
    prepare_images(
        settings.images,
        settings.geometry,
        arguments.seed,
        arguments.threads,
        arguments.out,
        arguments.report,
    )


def prepare_images(
    settings: ImageSet, geometry: Geometry, seed: int, threads: int, out: Path, report: Path
) -> None:
    """Read image files, resize and crop them, and write them as a Zarr store of 8-bit pixels.

    The store contains `intensity` (item, channel, y, x), from 0 to 1 after scaling, with one chunk
    per item, and the class and digest of each item.

    Parameters
    ----------
    settings : ImageSet
    geometry : Geometry
    seed : int
        Random seed for choosing `count` images.
    threads : int
        Number of files that are decoded at the same time.
    out : Path
        Store to write; it appears when it is complete.
    report : Path
        Table to write, of the images that were converted or left out, with the reasons.

    Raises
    ------
    InputError
        If no image can be read, or, with `strict`, if one of them cannot.
    """
    if geometry.crop is None:
        raise InputError("crop is required, because all inputs of a network have the same size")
    entries = list_images(
        settings.images, file_column=settings.file_column, class_column=settings.class_column
    )
    classes = _classes(settings, entries)
    entries = _chosen(entries, settings.count, seed)
    notes: list[dict[str, str]] = []
    with replace_folder(out) as folder:
        create_image_store(folder, (len(entries), 3, geometry.crop, geometry.crop), 1 / 255)
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
                f"{settings.images}: none of the images can be read: {notes[0]['reason']}"
            )
        finish_image_store(
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
        print(f"{left_out} of {len(entries)} images were left out: see {report}", file=sys.stderr)
    write_tsv(pd.DataFrame(notes, columns=["image", "done", "reason"]), report)


def _classes(settings: ImageSet, entries: Sequence[Entry]) -> Classes | None:
    if settings.classes is not None:
        return read_classes(settings.classes)
    if settings.images.is_dir() and entries[0].label:
        return classes_of_folders(entries)
    return None


def _numbers(entries: Sequence[Entry], classes: Classes | None) -> NDArray[np.int64]:
    """Return the class numbers of entries; without names of classes, labels can be numbers."""
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
    """Read files in order, several at a time, and at most `_AHEAD` files ahead."""

    def read(entry: Entry) -> tuple[Entry, Picture | InputError]:
        try:
            return entry, read_image(entry.file, resize=geometry.resize, crop=geometry.crop)
        except InputError as error:
            return entry, error

    with ThreadPoolExecutor(threads) as pool:
        left = iter(entries)
        while batch := list(islice(left, _AHEAD)):
            yield from pool.map(read, batch)
