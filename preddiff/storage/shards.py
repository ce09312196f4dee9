"""Shards of stores that jobs fill: the start and the end of a job, and the store's opening."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preddiff.errors import InputError
from preddiff.storage.aside import has_results, restore, reuse_items, set_aside
from preddiff.storage.files import remove_leftovers, replace_folder, write_atomically
from preddiff.storage.filled import FilledStore
from preddiff.storage.locks import Claim, exclusive
from preddiff.storage.markers import Job, Marker, forget_complete_shards, job_file, markers_of
from preddiff.storage.provenance import differences
from preddiff.storage.stores import (
    PROVENANCE,
    attributes,
    open_store,
    provenance_of,
    update_attributes,
)

# Attribute of a store of levels: the error that maps may have.
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Opening:
    """A store that is wanted, to be filled by jobs.

    Attributes
    ----------
    names : list of str
        Items.
    provenance : dict
    links : dict
        Attributes that may change without any number changing: places, device, ...
    create : callable
        Makes the empty store in a folder.
    check : callable
        Opens a store, and raises InputError if its metadata are damaged.
    goal : dict
        Attributes that say when an item is complete. They may change as `links` may, but then no
        shard is complete any more.
    """

    names: list[str]
    provenance: dict[str, Any]
    links: dict[str, Any]
    create: Callable[[Path], None]
    check: Callable[[Path], FilledStore] = FilledStore
    goal: dict[str, Any] = field(default_factory=dict)


def open_or_keep(out: Path, wanted: Opening, keep_numbers_of: str | None = None) -> list[str]:
    """Make a store for jobs to fill, unless there is one of the same provenance.

    Results of another provenance are set aside; if one of the stores set aside has the wanted
    provenance, it is moved back. Items that are as before keep their results. What was done is
    said on standard error.

    Parameters
    ----------
    out : Path
    wanted : Opening
    keep_numbers_of : str, optional
        Version of preddiff whose store is kept, if it differs in code only.

    Returns
    -------
    list of str
        Differences to the store that was there before; empty if it was kept or there was none.
    """
    with exclusive(out):
        changed = _changed(out, wanted) if out.exists() else []
        if out.exists() and not changed:
            _renew(out, wanted)
            return []
        if changed and _keeps_numbers(out, wanted, keep_numbers_of):
            noted = {PROVENANCE: wanted.provenance, "numbers_of": keep_numbers_of}
            update_attributes(out, noted)
            _renew(out, wanted)
            return []
        if restore(out, wanted.provenance):
            print(f"{out}: results of these settings were set aside; moved back", file=sys.stderr)
            _renew(out, wanted)
            return []
        with replace_folder(out) as folder:
            wanted.create(folder)
            kept = reuse_items(out, folder)
            _remove_markers(out, wanted.names, kept)
            if has_results(out, besides=kept):
                print(f"{out}: its results are set aside as {set_aside(out)}", file=sys.stderr)
    if changed:
        _say(out, changed)
    return changed


def _renew(out: Path, wanted: Opening) -> None:
    """Bring the attributes of a store that is kept up to date."""
    about = attributes(open_store(out))
    if any(about.get(key) != value for key, value in wanted.goal.items()):
        forget_complete_shards(out)
    update_attributes(out, {**wanted.links, **wanted.goal})


def _say(out: Path, changed: list[str]) -> None:
    """Say why a store was not kept."""
    if all(line.startswith("items: ") for line in changed):
        print(f"{out}: other items; unchanged ones are kept", file=sys.stderr)
    else:
        print(f"{out}: replaced, since this changed:", *changed, sep="\n  ", file=sys.stderr)


def _remove_markers(out: Path, names: list[str], kept: dict[int, int]) -> None:
    """Delete markers of shards that hold other items now."""
    complete = {names[row] for row in kept.values()}
    for path, marker in markers_of(out):
        now = names[marker.first : marker.last] if marker else []
        if not marker or now != list(marker.items) or not complete.issuperset(now):
            path.unlink()


def _keeps_numbers(out: Path, wanted: Opening, version: str | None) -> bool:
    """Whether a store is of a version whose numbers are kept, and differs in code only."""
    if version is None:
        return False
    try:
        found = wanted.check(out).about
    except InputError:
        return False
    if found.get("preddiff") != version:
        return False
    return not differences(_settings_of(found[PROVENANCE]), _settings_of(wanted.provenance))


def _settings_of(made_of: dict[str, Any]) -> dict[str, Any]:
    """A provenance without code, in the form that all versions have in common.

    Version 0.1.0 noted the device, and that draws are cut but not to which range.
    """
    settings = {key: value for key, value in made_of.items() if key not in ("code", "device")}
    if "clip" in settings:
        settings["clip"] = bool(settings["clip"])
    return settings


def _changed(out: Path, wanted: Opening) -> list[str]:
    try:
        changed = differences(provenance_of(out), wanted.provenance)
        if not changed:
            wanted.check(out)
    except InputError as error:
        return [str(error)]
    return changed


def require_unchanged(store: FilledStore, now: Mapping[str, Any], command: str) -> None:
    """Check that what a store depends on is as it was when the store was opened.

    Parameters
    ----------
    store : FilledStore
    now : mapping
        Parts of the provenance, as they are now.
    command : str
        Subcommand that opens such a store.

    Raises
    ------
    InputError
    """
    made_of = store.about[PROVENANCE]
    for what, value in now.items():
        if made_of.get(what) != value:
            raise InputError(
                f"{store.path}: since the store was opened, its {what} changed; open it again with "
                f"preddiff {command}"
            )


@contextmanager
def filling(
    store: FilledStore,
    first: int,
    last: int | None,
    marker: Path | None,
    blocks_done: float,
    mine: Claim,
) -> Iterator[None]:
    """Record that a job has started with a shard and, unless the body raises, that it is complete.

    Raises
    ------
    InputError
        If another accuracy was asked for in the meantime, so that it is not known to be complete.

    Parameters
    ----------
    store : FilledStore
    first, last : int
        Items `first` to `last` - 1 of the store; to the end if `last` is None.
    marker : Path, optional
        File to write when all these items are complete.
    blocks_done : float
        Blocks of these items that are complete at the start; with levels, the share of the
        work of each item, added up.
    mine : Claim
        Of these items.
    """
    started = job_file(store.path, first, last)
    about = Job(first, last, socket.gethostname(), time.time(), blocks_done)
    remove_leftovers(started)
    with write_atomically(started) as temporary:
        temporary.write_text(json.dumps(asdict(about)) + "\n")
    yield
    if marker is not None:
        with mine.writing():
            _require_same_goal(store)
            remove_leftovers(marker)
            found = Marker(first, last, tuple(store.items[first:last]))
            with write_atomically(marker) as temporary:
                temporary.write_text(found.to_json({PROVENANCE: store.about[PROVENANCE]}))
    started.unlink(missing_ok=True)


def _require_same_goal(store: FilledStore) -> None:
    if attributes(open_store(store.path)).get(ACCURACY) != store.about.get(ACCURACY):
        raise InputError(
            f"{store.path}: another accuracy was asked for while this job was running; run it again"
        )
