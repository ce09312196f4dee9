"""Stores set aside: results of other settings or other code, kept until pruned.

They lie in the folder `aside` beside the store of their explanation, each named after it and after
the digest of its provenance, such as `aside/conditional-1f3a90c2.zarr`. `set_aside`, `restore` and
`reuse_items` are called while `locks.exclusive` is held on the explanation's store.
"""

import os
import re
import shutil
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from preddiff.errors import InputError
from preddiff.storage.files import remove_folder
from preddiff.storage.filled import BlockCounts, FilledStore, carry_over
from preddiff.storage.locks import exclusive, lock_file
from preddiff.storage.markers import job_folder, marker_folder, remove_markers
from preddiff.storage.provenance import differences, digest_json
from preddiff.storage.stores import PROVENANCE, provenance_of

# Key of the provenance that holds one digest of all items of a store.
ITEMS = "items"
# Folders of a study with stores that jobs fill.
EXPECTATIONS = "expectations"
KINDS = (EXPECTATIONS, "relevance")
_FOLDER = "aside"
# Explanation; digest of the provenance; a number from 2 on if several have the same.
_NAME = re.compile(r"([^.].*)-(?:[0-9a-f]{8}|damaged)(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class StoreAside:
    """A store that was set aside.

    Attributes
    ----------
    path : Path
        Where it is.
    store : Path
        Where it was, and where the current store of its explanation is.
    provenance : dict, optional
        What it was made by; None if its metadata are damaged.
    """

    path: Path
    store: Path
    provenance: dict[str, Any] | None

    def differences(self) -> list[str]:
        """How its provenance differs from the current store's, as `key: aside -> current`."""
        if self.provenance is None:
            return ["its metadata are damaged"]
        if not self.store.exists():
            return [f"there is no {self.store.name} now"]
        current = _provenance(self.store)
        if current is None:
            return [f"the metadata of {self.store.name} are damaged"]
        return differences(self.provenance, current)


def has_results(store: Path, besides: Collection[int] = ()) -> bool:
    """Whether a store holds computed blocks.

    Parameters
    ----------
    store : Path
    besides : collection of int
        Items whose blocks do not count.

    Returns
    -------
    bool
        For a store whose metadata are damaged: whether there are any files in it.
    """
    try:
        begun = BlockCounts(store).items_begun()
    except InputError:
        return any(names for _, _, names in os.walk(store))
    return not set(besides).issuperset(begun)


def set_aside(store: Path) -> Path | None:
    """Move a store out of the way of another one; a store without results is deleted.

    Its markers and the files of its jobs are deleted: they would be taken for those of the store
    that follows.

    Parameters
    ----------
    store : Path
        A store that jobs fill, which may be damaged or missing.

    Returns
    -------
    Path or None
        Where the store is now; None if it had no results.
    """
    remove_markers(store)
    if not has_results(store):
        remove_folder(store)
        return None
    path = _unused_path(store)
    path.parent.mkdir(exist_ok=True)
    store.rename(path)
    return path


def restore(store: Path, provenance: dict[str, Any]) -> bool:
    """Move a store of exactly this provenance back, if one was set aside.

    A store that has taken its place is set aside in turn. Blocks that the restored store lacks are
    taken from other stores that were set aside, as by `reuse_items`.

    Parameters
    ----------
    store : Path
        Where it was, and will be.
    provenance : dict
        What it has to be made by.

    Returns
    -------
    bool
        Whether there was such a store.
    """
    found = [path for path in _paths_aside(store) if _is_made_by(path, provenance)]
    if not found:
        return False
    best = max(found, key=lambda path: sum(_blocks(path).values()))
    set_aside(store)
    reuse_items(store, best)
    best.rename(store)
    return True


def reuse_items(store: Path, new: Path) -> dict[int, int]:
    """Take over results that stay valid from a store, and from those that were set aside for it.

    These are the blocks of items with the same digest, in stores whose provenance differs from that
    of `new` in its items only. For each item, the store with most blocks of it is chosen.

    Parameters
    ----------
    store : Path
        The current store of the explanation, which may be damaged or missing.
    new : Path
        The store that takes its place; items of which it holds as many blocks are left as they are.

    Returns
    -------
    dict of int to int
        Position in `store`, and in `new`, of the items with results in `store` that `new` has now.
    """
    wanted = FilledStore(new)
    rows = {digest: row for row, digest in enumerate(wanted.item_digests)}
    most = _blocks(new)
    chosen: dict[int, tuple[Path, int]] = {}
    shared: dict[int, int] = {}
    for path in [store, *_paths_aside(store)]:
        if path == new or not _is_made_by(path, wanted.about[PROVENANCE], of_any_items=True):
            continue
        digests = FilledStore(path).item_digests
        found = {old: blocks for old, blocks in _blocks(path).items() if digests[old] in rows}
        for old, blocks in found.items():
            row = rows[digests[old]]
            if blocks > most.get(row, 0):
                most[row], chosen[row] = blocks, (path, old)
        if path == store:
            shared = {old: rows[digests[old]] for old in found}
    sources: dict[Path, dict[int, int]] = defaultdict(dict)
    for row, (path, old) in chosen.items():
        sources[path][old] = row
    for path, items in sources.items():
        carry_over(path, new, items)
    return shared


def stores_aside(study: Path) -> list[StoreAside]:
    """List the stores that were set aside in a study.

    Parameters
    ----------
    study : Path
        Folder of the study, `results/<study>`.
    """
    return [
        StoreAside(path, study / kind / f"{match[1]}.zarr", _provenance(path))
        for kind in KINDS
        for path in sorted((study / kind / _FOLDER).glob("*.zarr"))
        if (match := _NAME.fullmatch(path.stem))
    ]


def delete(aside: StoreAside) -> None:
    """Delete a store that was set aside."""
    with exclusive(aside.store):
        remove_folder(aside.path)
        lock_file(aside.path).unlink(missing_ok=True)
        leftovers = aside.path.parent.glob(".*.zarr")
        for folder in (marker_folder(aside.path), job_folder(aside.path), *leftovers):
            shutil.rmtree(folder, ignore_errors=True)


def size_of(stores: Iterable[Path]) -> int:
    """Bytes of the files of some stores; a file that they share counts once."""
    return sum(size for size, _, _ in _files(stores))


def freed_by_deleting(stores: Iterable[Path]) -> int:
    """Bytes that are freed if some stores are deleted: files that others share stay."""
    return sum(size for size, found, links in _files(stores) if found == links)


def _files(stores: Iterable[Path]) -> Iterator[tuple[int, int, int]]:
    """Size of each file, the number of its names in these stores, and that of all its names."""
    found: dict[tuple[int, int], tuple[int, int, int]] = {}
    for store in stores:
        for folder, _, names in os.walk(store):
            for name in names:
                about = os.lstat(os.path.join(folder, name))
                if stat.S_ISREG(about.st_mode):
                    key = (about.st_dev, about.st_ino)
                    _, before, _ = found.get(key, (0, 0, 0))
                    found[key] = (about.st_size, before + 1, about.st_nlink)
    yield from found.values()


def _paths_aside(store: Path) -> list[Path]:
    """Stores that were set aside for a store."""
    return [
        path
        for path in sorted((store.parent / _FOLDER).glob("*.zarr"))
        if (match := _NAME.fullmatch(path.stem)) and match[1] == store.stem
    ]


def _unused_path(store: Path) -> Path:
    provenance = _provenance(store)
    digest = "damaged" if provenance is None else digest_json(provenance)[:8]
    name = f"{store.stem}-{digest}"
    names = (f"{name}.zarr" if n == 1 else f"{name}.{n}.zarr" for n in count(1))
    paths = (store.parent / _FOLDER / name for name in names)
    return next(path for path in paths if not path.exists())


def _is_made_by(path: Path, provenance: dict[str, Any], of_any_items: bool = False) -> bool:
    """Whether a store has this provenance, and its metadata are not damaged."""
    try:
        FilledStore(path)
        found = provenance_of(path)
    except InputError:
        return False
    same = {ITEMS: ""} if of_any_items else {}
    return not differences({**found, **same}, {**provenance, **same})


def _blocks(store: Path) -> dict[int, int]:
    """Number of blocks of each item that has any."""
    counts = BlockCounts(store)
    return {item: counts.blocks_written(item) for item in counts.items_begun()}


def _provenance(store: Path) -> dict[str, Any] | None:
    try:
        return provenance_of(store)
    except InputError:
        return None
