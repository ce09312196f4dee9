"""Command status: print how far the explanations of a study are, and which stores are set aside."""

import argparse
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preddiff.errors import InputError
from preddiff.storage.aside import EXPECTATIONS, KINDS, size_of, stores_aside
from preddiff.storage.filled import BlockCounts, share_done
from preddiff.storage.locks import is_claimed
from preddiff.storage.maps import is_store_of_maps
from preddiff.storage.markers import Job, markers_of, unfinished_jobs
from preddiff.storage.stores import attributes, open_store

# Lines of the log of each job that failed, and number of such jobs, that are printed.
_LINES = 5
_JOBS = 10
# Characters of a difference between two provenances that are printed.
_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "studies", type=Path, nargs="+", metavar="STUDY", help="folders of studies, results/<study>"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the status of some studies.

    Raises
    ------
    InputError
        If a folder holds no study whose explanations were started.
    """
    for number, folder in enumerate(arguments.studies):
        print("\n" * bool(number) + report(folder))


@dataclass(frozen=True)
class Status:
    """How far an explanation is.

    Attributes
    ----------
    name : str
    items, items_done : int
    blocks, blocks_done : int, float
        In a store of levels, an item counts as one block, of which a part can be done.
    running, stopped : tuple of Job
        Jobs that are running, and jobs that ended before their items were complete. The
        `blocks_done` of the former are those since they started.
    now : float
        Seconds since 1970.
    accuracy, error : float, optional
        In a store of levels: what was asked for, and the largest error of the maps of items that
        are not known to be complete.
    """

    name: str
    items: int
    items_done: int
    blocks: int
    blocks_done: float
    running: tuple[Job, ...]
    stopped: tuple[Job, ...]
    now: float
    accuracy: float | None = None
    error: float | None = None

    @property
    def rate(self) -> float:
        """Blocks per second of all running jobs."""
        return sum(job.blocks_done / max(self.now - job.since, 1.0) for job in self.running)

    @property
    def unit(self) -> str:
        """What the rate counts."""
        return "blocks" if self.accuracy is None else "items"

    @property
    def seconds_left(self) -> float | None:
        """Time left at this rate; None if nothing is running, or nothing is left."""
        left = self.blocks - self.blocks_done
        return left / self.rate if left and self.rate else None


def status_of(store: Path) -> Status:
    """Status of a store that jobs fill.

    Raises
    ------
    InputError
        If there is no such store, or its metadata are damaged.
    """
    counts = BlockCounts(store)
    complete: set[int] = set()
    for _, marker in markers_of(store):
        if marker is not None:
            complete.update(range(marker.first, marker.first + len(marker.items)))
    begun = [item for item in counts.items_begun() if item not in complete]
    accuracy, error, whole = None, None, counts.blocks
    unfinished: dict[int, float]
    if counts.has_levels:
        accuracy, whole = float(attributes(open_store(store))["accuracy"]), 1
        errors = {item: counts.errors(item) for item in begun}
        unfinished = {item: share_done(found, accuracy) for item, found in errors.items()}
        error = max((float(found[-1]) for found in errors.values() if len(found)), default=None)
    else:
        unfinished = {item: counts.blocks_written(item) for item in begun}
    jobs = unfinished_jobs(store)
    running = {job for job in jobs if is_claimed(store, job.first, job.stop(counts.items))}

    def _is_done(job: Job) -> bool:
        return complete.issuperset(range(job.first, job.stop(counts.items)))

    done = len(complete) + sum(count == whole for count in unfinished.values())
    return Status(
        name=store.stem,
        items=counts.items,
        items_done=done,
        blocks=counts.items * whole,
        blocks_done=len(complete) * whole + sum(unfinished.values()),
        running=tuple(
            _since_its_start(job, counts.items, whole, unfinished, complete)
            for job in jobs
            if job in running
        ),
        stopped=tuple(job for job in jobs if job not in running and not _is_done(job)),
        now=time.time(),
        accuracy=accuracy,
        error=error,
    )


def _since_its_start(
    job: Job, stop: int, whole: int, unfinished: dict[int, float], complete: set[int]
) -> Job:
    """Replace the blocks that were complete when a job started by those that it has computed."""
    items = range(job.first, job.stop(stop))
    now = sum(whole if n in complete else unfinished.get(n, 0) for n in items)
    return replace(job, blocks_done=max(0, now - job.blocks_done))


def report(folder: Path) -> str:
    """Table of all explanations of a study, failed jobs, and stores that were set aside.

    Parameters
    ----------
    folder : Path
        Folder of a study, `results/<study>`.

    Raises
    ------
    InputError
        If no explanations were started there.
    """
    stores = _stores(folder)
    aside = _aside(folder)
    if not stores and not aside:
        raise InputError(
            f"{folder}: no explanations were started here; give the folder of a study, such as "
            "results/phantom"
        )
    found = [status_of(store) for store in stores]
    lines = _table(_row(one) for one in found)
    for one in found:
        for job in one.stopped[:_JOBS]:
            lines += ["", *_end_of_log(folder, one.name, job)]
        if len(one.stopped) > _JOBS:
            lines += ["", f"{one.name}: {len(one.stopped) - _JOBS} more jobs failed"]
    return "\n".join(lines + aside)


def _stores(folder: Path) -> list[Path]:
    """Stores of a study that jobs fill: all expectations, and maps by methods without windows."""
    # Names of temporary folders begin with a dot.
    found = [path for kind in KINDS for path in sorted((folder / kind).glob("[!.]*.zarr"))]
    return [path for path in found if path.parent.name == EXPECTATIONS or is_store_of_maps(path)]


_HEADER = (
    "explanation",
    "items",
    "blocks",
    "done",
    "error",
    "running",
    "rate",
    "time left",
    "failed",
)


def _row(one: Status) -> tuple[str, ...]:
    share = one.blocks_done / one.blocks if one.blocks else 1.0
    return (
        one.name,
        f"{one.items_done:,} of {one.items:,}",
        f"{one.blocks_done:,} of {one.blocks:,}" if one.accuracy is None else "",
        f"{share:.0%}" if one.blocks_done in (0, one.blocks) else f"{min(share, 0.999):.1%}",
        _error(one),
        str(len(one.running)),
        f"{one.rate * 60:.3g} {one.unit}/min" if one.running else "",
        _duration(one.seconds_left),
        str(len(one.stopped) or ""),
    )


def _error(one: Status) -> str:
    """Accuracy that was reached, beside what was asked for."""
    if one.accuracy is None:
        return ""
    if one.error is None:
        return f"{one.accuracy:g} {'reached' if one.items_done == one.items else 'asked'}"
    return f"{one.error:.2g} of {one.accuracy:g}"


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [_HEADER, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADER))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under 1 min"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _end_of_log(folder: Path, name: str, job: Job) -> list[str]:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.since))
    end = "the last" if job.last is None else job.last - 1
    title = f"{name}, items {job.first} to {end}: started {since} on {job.host}, failed"
    logs = [
        folder / "logs" / f"{command}-{name}-{job.first:05d}-{job.last or 0:05d}.log"
        for command in ("explain", "map")
    ]
    log = next((path for path in logs if path.is_file()), None)
    if log is None:
        return [title]
    with log.open(errors="replace") as file:
        last = deque((line.rstrip() for line in file if line.strip()), maxlen=_LINES)
    return [f"{title}; {log} ends with", *(f"    {line}" for line in last)]


def _aside(folder: Path) -> list[str]:
    stores = stores_aside(folder)
    if not stores:
        return []
    lines = [
        "",
        f"set aside, since settings or code changed (`preddiff prune {folder}` deletes them):",
    ]
    for one in stores:
        lines.append(f"  {one.path}, {size_of([one.path]) / 1e6:,.1f} MB; aside -> current store:")
        lines += [f"    {_shortened(text)}" for text in one.differences()]
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
