"""Markers: the files that tell which shards of an expectation store are begun, and complete."""

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
        """Text of the marker's file, with what else is to be told."""
        return json.dumps({**asdict(self), **about}, indent=2) + "\n"


def markers_of(store: Path) -> Iterator[tuple[Path, Marker | None]]:
    """Markers of a store, with the file of each; None for one that cannot be read."""
    for path in sorted(store.with_suffix(".done").glob("*.json")):
        try:
            found = json.loads(path.read_text())
            yield path, Marker(found["first"], found["last"], tuple(found["items"]))
        except (ValueError, KeyError, TypeError):
            yield path, None


@dataclass(frozen=True)
class Started:
    """A job that was begun and has not written its marker yet.

    Attributes
    ----------
    first, last : int
        Its items, as a marker has them.
    host : str
        Where it was begun.
    since : float
        When, in seconds since 1970.
    blocks_done : int
        Blocks of its items that were complete then.
    """

    first: int
    last: int | None
    host: str
    since: float
    blocks_done: int

    def end(self, items: int) -> int:
        """Item that it stops before, of so many in the store."""
        return items if self.last is None else min(self.last, items)


def started_file(store: Path, first: int, last: int | None) -> Path:
    """File that tells that items are being explained."""
    return store.with_suffix(".started") / f"items-{first:05d}-{last or 0:05d}.json"


def started_in(store: Path) -> tuple[Started, ...]:
    """Jobs of a store that were begun and are not done; those that cannot be read are left out."""
    found = []
    for path in sorted(store.with_suffix(".started").glob("*.json")):
        try:
            found.append(Started(**json.loads(path.read_text())))
        except (ValueError, TypeError, FileNotFoundError):
            continue
    return tuple(found)
