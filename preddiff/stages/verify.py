"""Command verify: read stores back, and list what is damaged."""

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zarr

from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.files import remove_folder
from preddiff.storage.filled import has_levels, is_filled_by_jobs
from preddiff.storage.levels import LevelStore
from preddiff.storage.locks import claim
from preddiff.storage.maps import MapStore, is_store_of_maps
from preddiff.storage.markers import remove_marker_of
from preddiff.storage.stores import DAMAGED_CHUNK, array, array_names, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("stores", type=Path, nargs="+", metavar="STORE", help="stores of a study")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="delete what is damaged, so that the study's next run computes it again: blocks or "
        "levels of an expectation store, items of a store of maps, any other store as a whole",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print what is damaged in some stores.

    Raises
    ------
    InputError
        If a store cannot be opened, or damage was not repaired.
    """
    damaged = unreadable = 0
    for path in arguments.stores:
        try:
            lines = verify(path, arguments.repair)
        except InputError as error:
            print(error)
            unreadable += 1
            continue
        for line in lines:
            print(f"{path}: {line}")
        if not lines:
            print(f"{path}: everything that was written can be read")
        damaged += len(lines)
    if unreadable:
        raise InputError(f"stores that cannot be opened: {unreadable}")
    if damaged and not arguments.repair:
        raise InputError(
            f"damaged parts: {damaged}; with --repair they are deleted, and the study's next run "
            "computes them again"
        )
    if damaged:
        print("what was damaged is deleted; the study's next run computes it again")


def verify(path: Path, repair: bool = False) -> list[str]:
    """List the parts of a store that cannot be read, or fail their checksums.

    Parameters
    ----------
    path : Path
        Any store of a study.
    repair : bool
        Whether to delete what is damaged, so that the study's next run computes it again: blocks or
        levels of an expectation store, items of a store of maps, and any other store as a whole.

    Returns
    -------
    list of str
        One line for each block, or chunk of an array, that is damaged.

    Raises
    ------
    InputError
        If there is no store, or its metadata are damaged.
    """
    group = open_store(path)
    if is_store_of_maps(path):
        return _verify_maps(path, repair)
    if has_levels(path):
        return _verify_levels(path, repair)
    if is_filled_by_jobs(group):
        return _verify_expectations(path, repair)
    found = list(_damaged_chunks(open_store(path)))
    if found and repair:
        remove_folder(path)
    return found


def _verify_expectations(path: Path, repair: bool) -> list[str]:
    store = ExpectationStore(path, "r+" if repair else "r")
    return _verify_items(store, repair, lambda block: f"block {block.number}", store.discard)


def _verify_levels(path: Path, repair: bool) -> list[str]:
    store = LevelStore(path, "r+" if repair else "r")

    def discard(item: int, damaged: list[int]) -> None:
        store.discard(item, damaged[0])

    return _verify_items(store, repair, lambda level: f"level {level}", discard)


def _verify_maps(path: Path, repair: bool) -> list[str]:
    store = MapStore(path, "r+" if repair else "r")

    def discard(item: int, damaged: list[str]) -> None:
        store.discard(item)

    return _verify_items(store, repair, lambda name: f"array '{name}'", discard)


def _verify_items(
    store: ExpectationStore | LevelStore | MapStore,
    repair: bool,
    named: Callable[[Any], str],
    discard: Callable[[int, list[Any]], None],
) -> list[str]:
    """List damaged parts of the items of a store that jobs fill, and delete them on demand."""
    lines = []
    for number in progress(range(len(store.items)), desc="verify", unit="item"):
        damaged: list[Any] = [*store.damaged(number)]
        lines += [f"item '{store.items[number]}', {named(part)}" for part in damaged]
        if damaged and repair:
            with claim(store.path, number, number + 1) as mine, mine.writing():
                # A job that had the item until now may have computed the parts again.
                damaged = [*store.damaged(number)]
                if damaged:
                    # First, so that a shard never counts as complete though parts are missing.
                    remove_marker_of(store.path, number)
                    discard(number, damaged)
    return lines


def _damaged_chunks(group: zarr.Group) -> Iterator[str]:
    arrays = {name: array(group, name) for name in array_names(group)}
    chunks = [(name, chunk) for name, stored in arrays.items() for chunk in _chunks(stored)]
    for name, chunk in progress(chunks, desc="verify", unit="chunk"):
        try:
            arrays[name][chunk]
        except DAMAGED_CHUNK as error:
            where = ", ".join(f"{part.start} to {part.stop - 1}" for part in chunk)
            yield f"array '{name}', {where}: {error}"


def _chunks(stored: zarr.Array[Any]) -> Iterator[tuple[slice, ...]]:
    """Regions of an array that are chunks."""
    along = [
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(stored.shape, stored.chunks, strict=True)
    ]
    return itertools.product(*along)
