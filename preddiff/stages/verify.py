"""Command verify: read all of a store back, and list what is damaged."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zarr

from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.files import remove_folder
from preddiff.storage.locks import claim
from preddiff.storage.markers import markers_of
from preddiff.storage.stores import array, open_store


def verify(path: Path, mend: bool = False) -> list[str]:
    """List what is damaged in a store, or not as its metadata tell.

    Parameters
    ----------
    path : Path
        Any store of a study.
    mend : bool
        Whether to forget what is damaged, so that the study makes it again: blocks of an
        expectation store, and any other store as a whole.

    Returns
    -------
    list of str
        One line for each block, or part of an array, that is damaged.

    Raises
    ------
    InputError
        If there is no store.
    """
    if _is_of_expectations(path):
        return _verify_expectations(path, mend)
    found = list(_damaged_parts(open_store(path)))
    if found and mend:
        remove_folder(path)
    return found


def _is_of_expectations(path: Path) -> bool:
    return {"mean", "reference"} <= set(open_store(path).array_keys())


def _verify_expectations(path: Path, mend: bool) -> list[str]:
    store = ExpectationStore(path, "r+" if mend else "r")
    lines = []
    for number in progress(range(len(store.items)), desc="verify", unit="item"):
        damaged = store.damaged(number)
        lines += [f"item '{store.items[number]}', block {block.number}" for block in damaged]
        if damaged and mend:
            with claim(path, number, number + 1) as mine, mine.writing():
                store.forget(number, damaged)
            _remove_marker(path, number)
    return lines


def _remove_marker(path: Path, number: int) -> None:
    """Delete the marker of the shard that an item is in."""
    for file, marker in markers_of(path):
        if marker is None or marker.first <= number < (marker.last or number + 1):
            file.unlink()


def _damaged_parts(group: zarr.Group) -> Iterator[str]:
    arrays = {name: array(group, name) for name in sorted(group.array_keys())}
    parts = [(name, part) for name, stored in arrays.items() for part in _parts(stored)]
    for name, part in progress(parts, desc="verify", unit="chunk"):
        try:
            arrays[name][part]
        except (ValueError, RuntimeError) as error:
            where = ", ".join(f"{p.start} to {p.stop - 1}" for p in part)
            yield f"array '{name}', {where}: {error}"


def _parts(stored: zarr.Array[Any]) -> Iterator[tuple[slice, ...]]:
    """Regions that are chunks."""
    along = [
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(stored.shape, stored.chunks, strict=True)
    ]
    return itertools.product(*along)


def report(paths: Sequence[Path], mend: bool) -> None:
    """Print what is damaged in some stores.

    Raises
    ------
    InputError
        If anything is, and is not mended.
    """
    found = {path: verify(path, mend) for path in paths}
    for path, lines in found.items():
        for line in lines:
            print(f"{path}: {line}")
        if not lines:
            print(f"{path}: all that is written can be read back")
    count = sum(map(len, found.values()))
    if count and not mend:
        raise InputError(
            f"{count} parts are damaged; with --mend they are forgotten, and the study's next run "
            "makes them again"
        )
    if count:
        print("What is damaged was forgotten; the study's next run makes it again")


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Add."""
    parser.add_argument("stores", type=Path, nargs="+", help="any stores")
    parser.add_argument("--mend", action="store_true")


def run(arguments: "argparse.Namespace") -> None:
    """Run."""
    report(arguments.stores, arguments.mend)
