"""Stage status: how far the explanations of a study are, and what became of lost jobs."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preddiff.errors import InputError
from preddiff.storage.expectations import Layout
from preddiff.storage.locks import is_claimed
from preddiff.storage.markers import Job, markers_of, unfinished_jobs

# Jobs that ended early are shown with so many lines of their logs.
_LINES = 5
_JOBS = 10


@dataclass(frozen=True)
class Status:
    """How far an explanation is.

    Attributes
    ----------
    name : str
    items, items_done, blocks, blocks_done : int
    running, stopped : tuple of Job
        Jobs that are at work, and such as ended before they were done.
    now : float
        Seconds since 1970.
    """

    name: str
    items: int
    items_done: int
    blocks: int
    blocks_done: int
    running: tuple[Job, ...]
    stopped: tuple[Job, ...]
    now: float

    @property
    def rate(self) -> float:
        """Blocks per second of all jobs that run."""
        return sum(job.blocks_done / max(self.now - job.since, 1.0) for job in self.running)

    @property
    def seconds_left(self) -> float | None:
        """Time left at this rate; None if nothing runs, or nothing is left."""
        left = self.blocks - self.blocks_done
        return left / self.rate if left and self.rate else None


def status_of(store: Path) -> Status:
    """Status of an expectation store.

    Raises
    ------
    InputError
        If it is none.
    """
    layout = Layout(store)
    complete: set[int] = set()
    for _, marker in markers_of(store):
        if marker is not None:
            complete.update(range(marker.first, marker.first + len(marker.items)))
    unfinished = {
        item: layout.blocks_written(item) for item in layout.items_begun() if item not in complete
    }
    jobs = unfinished_jobs(store)
    running = tuple(job for job in jobs if is_claimed(store, job.first, job.stop(layout.items)))

    def _is_done(job: Job) -> bool:
        return complete.issuperset(range(job.first, job.stop(layout.items)))

    done = len(complete) + sum(count == layout.blocks for count in unfinished.values())
    return Status(
        name=store.stem,
        items=layout.items,
        items_done=done,
        blocks=layout.items * layout.blocks,
        blocks_done=len(complete) * layout.blocks + sum(unfinished.values()),
        running=tuple(_counted(job, layout, unfinished, complete) for job in running),
        stopped=tuple(job for job in jobs if job not in running and not _is_done(job)),
        now=time.time(),
    )


def _counted(job: Job, layout: Layout, unfinished: dict[int, int], complete: set[int]) -> Job:
    """Tell how many blocks a job has done since it started."""
    items = range(job.first, job.stop(layout.items))
    now = sum(layout.blocks if n in complete else unfinished.get(n, 0) for n in items)
    return replace(job, blocks_done=max(0, now - job.blocks_done))


def report(folder: Path) -> str:
    """Table of all explanations of a study, and the last words of jobs that ended early.

    Parameters
    ----------
    folder : Path
        Folder of a study, `results/<study>`.

    Raises
    ------
    InputError
        If nothing is there that explanations are stored in.
    """
    stores = sorted((folder / "expectations").glob("*.zarr"))
    if not stores:
        raise InputError(
            f"{folder}: no explanations are begun there; name the folder of a study, such as "
            "results/phantom"
        )
    found = [status_of(store) for store in stores]
    lines = _table(_row(one) for one in found)
    for one in found:
        for job in one.stopped[:_JOBS]:
            lines += ["", *_last_words(folder, one.name, job)]
        if len(one.stopped) > _JOBS:
            lines += ["", f"{one.name}: {len(one.stopped) - _JOBS} more jobs ended early"]
    return "\n".join(lines)


def _row(one: Status) -> tuple[str, ...]:
    share = one.blocks_done / one.blocks if one.blocks else 1.0
    return (
        one.name,
        f"{one.items_done:,} of {one.items:,}",
        f"{one.blocks_done:,} of {one.blocks:,}",
        f"{share:.0%}" if one.blocks_done in (0, one.blocks) else f"{min(share, 0.999):.1%}",
        str(len(one.running)),
        f"{one.rate * 60:.3g} blocks/min" if one.running else "",
        _duration(one.seconds_left),
        str(len(one.stopped) or ""),
    )


_HEADER = ("explanation", "items", "blocks", "done", "running", "rate", "time left", "ended early")


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


def _last_words(folder: Path, name: str, job: Job) -> list[str]:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.since))
    title = f"{name}, items {job.first} to {job.last}: begun {since} on {job.host}, ended early"
    log = folder / "logs" / f"explain-{name}-{job.first:05d}-{job.last or 0:05d}.log"
    if not log.is_file():
        return [title]
    with log.open(errors="replace") as file:
        last = deque((line.rstrip() for line in file if line.strip()), maxlen=_LINES)
    return [f"{title}; {log} ends with", *(f"    {line}" for line in last)]
