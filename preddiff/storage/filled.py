"""Stores that jobs fill item by item: what expectation stores and stores of maps have in common."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.storage.stores import (
    DAMAGED_CHUNK,
    Variable,
    array,
    array_names,
    attributes,
    open_store,
    reading_metadata,
)
from preddiff.windows import Windows

# Attribute with the names of the arrays that jobs fill, in the order of writing.
FILLED = "filled"
# Stores without this attribute are expectation stores.
EXPECTATION_ARRAYS = ("reference", "change", "variance", "mean")
# Last array of stores whose items are filled level by level.
LAST_OF_LEVELS = "reached"
# Attribute with how far windows extend before and after the classifier's input along each axis, if
# they do.
MARGINS = "margins"


def filled_arrays(group: zarr.Group) -> tuple[str, ...]:
    """Arrays of a store that jobs fill, in the order of writing.

    The last one comes last: a block that has it is complete.
    """
    return tuple(str(name) for name in attributes(group).get(FILLED, EXPECTATION_ARRAYS))


def has_levels(path: Path) -> bool:
    """Whether the items of a store are filled level by level.

    Raises
    ------
    InputError
        If there is no such store, or its metadata are damaged.
    """
    return filled_arrays(open_store(path))[-1] == LAST_OF_LEVELS


def is_filled_by_jobs(group: zarr.Group) -> bool:
    """Whether a store is one that jobs fill, so that parts of it can be missing."""
    return FILLED in attributes(group) or {"mean", "reference"} <= set(array_names(group))


def reference_variable(items: int, targets: int) -> Variable:
    """Array `reference` of stores of expectations, with blocks as with levels."""
    return Variable(
        ("item", "target"),
        (items, targets),
        (1, targets),
        {"long_name": "value z of the target for the intact item"},
    )


def stored_windows(about: Mapping[str, Any], stride: int) -> Windows:
    """Return the windows of an expectation store, in the part of the items that has windows.

    Parameters
    ----------
    about : mapping
        Attributes of the store.
    stride : int
    """
    space = tuple(about["space"])
    margins = about.get(MARGINS)
    if margins is None:
        return Windows(space, about["k"], stride)
    seen = tuple(slice(before, before + n) for (before, _), n in zip(margins, space, strict=True))
    whole = tuple(part.stop + after for (_, after), part in zip(margins, seen, strict=True))
    return Windows(whole, about["k"], stride, seen=seen)


class FilledStore:
    """A store that any number of jobs fill, each with the items of its shard.

    Parameters
    ----------
    path : Path
        A store that a stage has opened.
    mode : {"r", "r+"}
        For reading, or for reading and writing.

    Attributes
    ----------
    items, targets : list of str
    item_digests : list of str
        Digest of each item's values and of its targets' classes.
    about : dict
        Attributes of the store.
    filled : tuple of str
        Arrays that jobs fill, in the order of writing.

    Raises
    ------
    InputError
        If there is no such store, or its metadata are damaged.
    """

    def __init__(self, path: Path, mode: Literal["r", "r+"] = "r") -> None:
        self.path = path
        self.group = open_store(path, mode)
        self.filled = filled_arrays(self.group)
        self._arrays = {name: array(self.group, name) for name in self.filled}
        self.items = self._names("item")
        self.item_digests = self._names("item_digest")
        self.targets = self._names("target")
        self.about = attributes(self.group)

    def _names(self, coordinate: str) -> list[str]:
        stored = array(self.group, coordinate)
        with reading_metadata(self.path):
            return [str(name) for name in np.asarray(stored[:])]

    def remove_leftovers(self, items: Sequence[int]) -> None:
        """Delete temporary files of these items, which killed jobs left."""
        own = set(items)
        for name in self.filled:
            for file, item in _chunk_files(self.path / name, temporary=True):
                if item in own:
                    file.unlink(missing_ok=True)

    def _file(self, name: str, item: int) -> Path:
        """First file of an array's values of an item."""
        stored = self._arrays[name]
        key = stored.metadata.encode_chunk_key((item,) + (0,) * (stored.ndim - 1))
        return self.path / name / key

    def _files(self, name: str, item: int) -> list[Path]:
        """All files of an array's values of an item."""
        key = f"{self._file(name, item).name.split('.')[0]}.{item}"
        return [*self.path.glob(f"{name}/{key}.*"), *self.path.glob(f"{name}/{key}")]


class BlockCounts:
    """How many blocks of each item a store holds, without reading or decompressing their values.

    It takes the names of the files, and of each Zarr shard the index at its end: seconds for
    50,000 items. In a store of maps, an item is one block; in one of levels, a level is.

    Parameters
    ----------
    path : Path
        A store that jobs fill.

    Attributes
    ----------
    items : int
        Items of the store.
    blocks : int
        Blocks of an item; at most, in a store of levels.

    Raises
    ------
    InputError
        If there is no such store, or its metadata are damaged.
    """

    def __init__(self, path: Path) -> None:
        group = open_store(path)
        *_, last = filled_arrays(group)
        self._last = stored = array(group, last)
        self.items = stored.shape[0]
        self.has_levels = last == LAST_OF_LEVELS
        self._sharded = stored.shards is not None
        shard = stored.shards or stored.chunks
        self.blocks = prod(n // c for n, c in zip(shard, stored.chunks, strict=True))
        if self.has_levels:
            self.blocks = stored.shape[1]
        self._shards = {item: file for file, item in _chunk_files(path / last)}

    def items_begun(self) -> list[int]:
        """Items that have any blocks."""
        return sorted(self._shards)

    def blocks_written(self, item: int) -> int:
        """Blocks that an item has; 0 if its Zarr shard is truncated."""
        if self.has_levels:
            return len(self.errors(item))
        if not self._sharded:
            return int(item in self._shards)
        # The index holds an offset and a length for each chunk, and ends with a checksum.
        size = 16 * self.blocks + 4
        try:
            with self._shards[item].open("rb") as file:
                file.seek(-size, os.SEEK_END)
                index = np.frombuffer(file.read(size - 4), dtype="<u8")
        except (KeyError, OSError):
            return 0
        # Offsets of chunks that are not there have all bits set.
        return int(np.count_nonzero(index.reshape(-1, 2)[:, 0] != np.iinfo(np.uint64).max))

    def errors(self, item: int) -> NDArray[np.float64]:
        """Error that the maps of an item have after each of its levels, in a store of levels.

        Returns
        -------
        float64 array (levels,)
            That of the target with the largest one.
        """
        if item not in self._shards:
            return np.empty(0)
        try:
            found = np.asarray(self._last[item]).max(axis=-1)
        except DAMAGED_CHUNK:
            return np.empty(0)
        return found[: int(np.argmax(np.isnan(np.append(found, np.nan))))]


def share_done(errors: NDArray[np.floating], accuracy: float) -> float:
    """Share of the work of an item, in a store of levels, that is done: 1 if it is accurate.

    The error falls about as one over the root of the forward passes.

    Parameters
    ----------
    errors : array (levels,)
        Error after each level, of the target with the largest one.
    accuracy : float
    """
    if not len(errors):
        return 0.0
    if (errors <= accuracy).any():
        return 1.0
    return float(min(1, np.square(accuracy / errors[-1])))


def carry_over(old: Path, new: Path, rows: Mapping[int, int]) -> None:
    """Take over the blocks of some items from another store of the same settings.

    The files are shared by hard links where the file system has them, and copied elsewhere.

    Parameters
    ----------
    old, new : Path
        Stores of the same kind.
    rows : mapping of int to int
        Position of each item in the old store, and in the new one.
    """
    for name in filled_arrays(open_store(new)):
        for file, item in _chunk_files(old / name):
            if item in rows:
                key = file.name.split(".", 2)
                _link(file, new / name / ".".join([key[0], str(rows[item]), *key[2:]]))


def _link(source: Path, target: Path) -> None:
    # Files of a store are replaced, never changed, so that two stores can share them.
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _chunk_files(folder: Path, temporary: bool = False) -> Iterator[tuple[Path, int]]:
    """Files of an array's chunks, or the temporary ones of jobs that write, each with its item."""
    key = re.compile(r"c\.(\d+)\..*\.partial" if temporary else r"c\.(\d+)(?:\.\d+)*", re.ASCII)
    for entry in os.scandir(folder):
        match = key.fullmatch(entry.name)
        if match:
            yield Path(entry.path), int(match[1])
