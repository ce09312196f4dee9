"""Stage prepare-images: read image files and write them as a Zarr store."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from pydantic import Field

from preddiff.datasets.annotations import Boxes, written
from preddiff.datasets.base import Geometry
from preddiff.datasets.image_store import create_image_store, finish_image_store
from preddiff.datasets.images import (
    Classes,
    Entry,
    ImageSet,
    classes_of_folders,
    plain_name,
    read_classes,
)
from preddiff.datasets.pictures import (
    Picture,
    boxes_to_size,
    holds_pixels,
    read_image,
    read_mask,
)
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.settings.base import Settings
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings
from preddiff.storage.files import replace_folder
from preddiff.storage.provenance import digest_arrays, digest_json
from preddiff.storage.stores import array
from preddiff.storage.writers import write_tsv

# Number of files that are read ahead, which limits memory.
_AHEAD = 64
_BOXES_LEFT_OUT = "boxes left out"


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
    per item, and the class and digest of each item. If the images are annotated, it also contains
    `boxes` (item, box, side), xmin, ymin, xmax and ymax in pixels of the store, NaN where an item
    has fewer, and `truth` (item, y, x), 1 where an object is. A change of annotations does not
    change the digests.

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
        Table to write, of the images that were converted or left out, and of the annotations that
        were left out, with the reasons.

    Raises
    ------
    InputError
        If no image can be read or none is annotated, or, with `strict`, if an image or an
        annotation cannot be read.
    """
    if geometry.crop is None:
        raise InputError("crop is required, because all inputs of a network have the same size")
    entries = settings.entries()
    classes = _classes(settings, entries)
    entries = _chosen(entries, settings.count, seed)
    notes = _Notes(settings.strict)
    boxes = [_boxes(entry, classes, notes) for entry in entries]
    with replace_folder(out) as folder:
        create_image_store(
            folder,
            (len(entries), 3, geometry.crop, geometry.crop),
            1 / 255,
            boxes=max(len(one.sides) for one in boxes) if settings.has_boxes else None,
            truth=settings.has_truth,
        )
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        kept: list[Entry] = []
        digests: list[str] = []
        annotated: list[str] = []
        found = _read_all(entries, boxes, geometry, threads)
        for entry, item in progress(found, total=len(entries), desc="prepare", unit="image"):
            if isinstance(item, InputError):
                notes.fault(entry, "left out", item)
                continue
            notes.add(entry, item)
            _write(group, len(kept), item)
            digests.append(digest_arrays(item.picture.pixels))
            annotated.append(digest_arrays(item.boxes, item.truth))
            kept.append(entry)
        if not kept:
            raise InputError(f"{settings.images}: none of the images can be read: {notes.first}")
        _require_annotations(settings, group, notes)
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
                "annotations": digest_json(annotated),
            },
        )
    notes.write(report, len(entries))


@dataclass
class _Item:
    """An image as it is stored, with its annotations.

    Attributes
    ----------
    picture : Picture
    boxes : float32 array (boxes, 4)
    truth : bool array (height, width)
        Empty if the image has no mask.
    left_out : list of (str, InputError or str)
        What was left out of its annotations, and why: an error if it is faulty.
    """

    picture: Picture
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))
    truth: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), np.bool_))
    left_out: list[tuple[str, InputError | str]] = field(default_factory=list)

    def add_boxes(self, boxes: Boxes, geometry: Geometry) -> None:
        """Add those boxes, brought to the size of the store, that hold pixels of it."""
        try:
            boxes.check(self.picture.size)
        except InputError as error:
            self.left_out.append((_BOXES_LEFT_OUT, error))
            return
        sides = boxes_to_size(
            boxes.sides, self.picture.size, resize=geometry.resize, crop=geometry.crop
        )
        inside = holds_pixels(sides)
        self.boxes = sides[inside]
        for number in np.flatnonzero(~inside):
            reason = f"{boxes.source}: box {number + 1} ({written(boxes.sides[number])})"
            self.left_out.append(("box left out", f"{reason} has no pixel in the central square"))

    def add_truth(self, path: Path, geometry: Geometry) -> None:
        """Add the mask."""
        try:
            self.truth = read_mask(
                path, self.picture.size, resize=geometry.resize, crop=geometry.crop
            )
        except InputError as error:
            self.left_out.append(("mask left out", error))


class _Notes:
    """The report: what was converted or left out."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._rows: list[dict[str, str]] = []

    @property
    def first(self) -> str:
        """Reason of the first note; "" if there is none."""
        return self._rows[0]["reason"] if self._rows else ""

    def fault(self, entry: Entry, done: str, error: InputError) -> None:
        """Note what was left out because of a fault.

        Raises
        ------
        InputError
            The fault, if the dataset is strict.
        """
        if self._strict:
            raise error
        self._add(entry, done, str(error))

    def add(self, entry: Entry, item: _Item) -> None:
        """Note what was converted, and what was left out of the annotations."""
        if item.picture.note:
            self._add(entry, "converted", item.picture.note)
        for done, reason in item.left_out:
            if isinstance(reason, InputError):
                self.fault(entry, done, reason)
            else:
                self._add(entry, done, reason)

    def _add(self, entry: Entry, done: str, reason: str) -> None:
        self._rows.append({"image": entry.name, "done": done, "reason": reason})

    def write(self, report: Path, images: int) -> None:
        """Write the table, and print how many images and annotations were left out."""
        done = [row["done"] for row in self._rows]
        left_out = done.count("left out")
        if left_out:
            print(f"{left_out} of {images} images were left out: see {report}", file=sys.stderr)
        annotations = sum(text.endswith(" left out") for text in done)
        if annotations:
            print(f"annotations left out: {annotations}; see {report}", file=sys.stderr)
        write_tsv(pd.DataFrame(self._rows, columns=["image", "done", "reason"]), report)


def _boxes(entry: Entry, classes: Classes | None, notes: _Notes) -> Boxes:
    """Boxes of an image's class; none if they are faulty."""

    def same(label: str) -> bool:
        if plain_name(label) == plain_name(entry.label):
            return True
        try:
            return classes is not None and classes.index(label) == classes.index(entry.label)
        except InputError:
            return False

    try:
        boxes = entry.read_boxes()
    except InputError as error:
        notes.fault(entry, _BOXES_LEFT_OUT, error)
        return Boxes.none()
    return boxes.of_class(same) if entry.label else boxes


def _write(group: zarr.Group, row: int, item: _Item) -> None:
    array(group, "intensity")[row] = item.picture.pixels
    if len(item.boxes):
        array(group, "boxes")[row, : len(item.boxes)] = item.boxes
    if item.truth.any():
        array(group, "truth")[row] = item.truth.astype("u1")


def _require_annotations(settings: ImageSet, group: zarr.Group, notes: _Notes) -> None:
    """Require that at least one image is annotated, if any should be."""
    for name, source in (
        ("boxes", settings.boxes_column or settings.annotations),
        ("truth", settings.masks_column or settings.masks),
    ):
        if source is not None and not array(group, name).nchunks_initialized:
            reason = notes.first or "files belong to images of the same name, except for the suffix"
            raise InputError(
                f"{settings.images}: no image has {'boxes' if name == 'boxes' else 'a mask'} in "
                f"{source}: {reason}"
            )


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
    entries: Sequence[Entry], boxes: Sequence[Boxes], geometry: Geometry, threads: int
) -> Iterator[tuple[Entry, _Item | InputError]]:
    """Read files in order, several at a time, and at most `_AHEAD` files ahead."""

    def read(entry: Entry, own: Boxes) -> tuple[Entry, _Item | InputError]:
        try:
            item = _Item(read_image(entry.file, resize=geometry.resize, crop=geometry.crop))
        except InputError as error:
            return entry, error
        if len(own.sides):
            item.add_boxes(own, geometry)
        if entry.mask is not None:
            item.add_truth(entry.mask, geometry)
        return entry, item

    with ThreadPoolExecutor(threads) as pool:
        left = iter(zip(entries, boxes, strict=True))
        while batch := list(islice(left, _AHEAD)):
            yield from pool.map(read, *zip(*batch, strict=True))
