"""Markers: small files beside an expectation store that say which of its shards are complete.

Other files beside it, one for each job, say which shards are being explained.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Marker:
    """A shard that is complete.

    Attributes
    ----------
    first, last : int
        Items `first` to `last` - 1 of the store; to its end if `last` is None.
    items : tuple of str
        Their names.
    """

    first: int
    last: int | None
    items: tuple[str, ...]

    def to_json(self, about: dict[str, Any]) -> str:
        """Content of the marker's file, with further keys and values."""
        return json.dumps({**asdict(self), **about}, indent=2) + "\n"


@dataclass(frozen=True)
class Job:
    """A job that was started and has not completed its shard.

    Attributes
    ----------
    first, last : int
        Its items, as in `Marker`.
    host : str
        Where it was started.
    since : float
        When it was started, in seconds since 1970.
    blocks_done : float
        Blocks of its items that were complete then; in a store of levels, the share of the work of
        each item, added up.
    """

    first: int
    last: int | None
    host: str
    since: float
    blocks_done: float

    def stop(self, items: int) -> int:
        """Number of the item after its last one, in a store of so many items."""
        return items if self.last is None else min(self.last, items)


def opened_file(store: Path) -> Path:
    """File beside a store that tells the workflow that the store is open for its jobs."""
    return store.with_suffix(".opened")


def marker_folder(store: Path) -> Path:
    """Folder of the markers of a store."""
    return store.with_suffix(".done")


def job_folder(store: Path) -> Path:
    """Folder of the files of jobs that explain items of a store."""
    return store.with_suffix(".started")


def job_file(store: Path, first: int, last: int | None) -> Path:
    """File that a job writes when it starts, and deletes when its shard is complete."""
    return job_folder(store) / f"items-{first:05d}-{last or 0:05d}.json"


def markers_of(store: Path) -> Iterator[tuple[Path, Marker | None]]:
    """File and content of each marker of a store; None for a marker that cannot be read."""
    for path, found in _contents(marker_folder(store)):
        try:
            yield path, Marker(found["first"], found["last"], tuple(found["items"]))
        except (KeyError, TypeError):
            yield path, None


def unfinished_jobs(store: Path) -> tuple[Job, ...]:
    """Jobs of a store, running or dead, but for those whose files cannot be read."""
    jobs = []
    for _, found in _contents(job_folder(store)):
        try:
            jobs.append(Job(**found))
        except TypeError:
            continue
    return tuple(jobs)


def remove_markers(store: Path) -> None:
    """Delete all markers of a store, and the files of its jobs."""
    forget_complete_shards(store)
    for path in job_folder(store).glob("*.json"):
        path.unlink(missing_ok=True)


def forget_complete_shards(store: Path) -> None:
    """Delete all markers of a store, but not the files of its jobs, which may be running."""
    for path in marker_folder(store).glob("*.json"):
        path.unlink(missing_ok=True)


def remove_marker_of(store: Path, item: int) -> None:
    """Delete the marker of the shard that an item is in, given its number in the store."""
    for path, marker in markers_of(store):
        if marker is None or item in range(marker.first, marker.first + len(marker.items)):
            path.unlink(missing_ok=True)


def _contents(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Files of a folder, and what they hold; None if that cannot be read."""
    for path in sorted(folder.glob("*.json")):
        # Names of temporary files begin with a dot.
        if path.name.startswith("."):
            continue
        try:
            yield path, json.loads(path.read_text())
        except FileNotFoundError:
            # It was deleted since it was listed.
            continue
        except ValueError:
            yield path, None
