"""Markers: the files that tell which shards of an expectation store are complete."""

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
