"""Locks between the jobs of a study, on one node or several; the system frees those of the dead.

They are POSIX record locks of one small file beside a store, of which each byte stands for an item.
Local file systems and those that nodes share (NFS 4, GPFS, BeeGFS, Lustre mounted with `flock`)
free a lock when its process ends or its node is lost. Where there are none, jobs go on without:
files are still written whole, and work may be done twice.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preddiff.errors import InputError

# Byte that stands for the layout of the store; items have the bytes before it.
_LAYOUT = 1 << 40
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def lock_file(store: Path) -> Path:
    """File that locks of a store are taken on."""
    return store.with_suffix(".lock")


class Claim:
    """Items of a store that no other process explains meanwhile; see `claim`."""

    def __init__(self, store: Path, lock: int, folder: int) -> None:
        self.store = store
        self._lock = lock
        self._folder = folder

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store in its place while something is written to it.

        Raises
        ------
        InputError
            If the store was deleted or started anew since it was claimed.
        """
        with _held(self._lock, fcntl.LOCK_SH, _LAYOUT, 1):
            self._require_in_place()
            try:
                yield
            except OSError:
                # Most plainly told, if that is why the file system refused.
                self._require_in_place()
                raise

    def _require_in_place(self) -> None:
        if not _is_still(self.store, self._folder):
            raise InputError(
                f"{self.store}: the store was deleted or started anew while this job was filling "
                "it; what was to be written is dropped, run again"
            )


@contextmanager
def claim(store: Path, first: int, last: int | None) -> Iterator[Claim]:
    """Claim items of a store for this process; waits, and says so, while another one has them.

    Parameters
    ----------
    store : Path
    first, last : int
        Items `first` to `last` - 1; all from `first` on if `last` is None.

    Raises
    ------
    InputError
        If there is no store.
    """
    try:
        folder = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{store}: no such store; run the stage that makes it first") from None
    try:
        with _opened(store) as lock:
            count = (last if last is not None else _LAYOUT) - first
            with _held(lock, fcntl.LOCK_EX, first, count, _waiting_for(store, first, last)):
                yield Claim(store, lock, folder)
    finally:
        os.close(folder)


@contextmanager
def replacing(store: Path) -> Iterator[None]:
    """Hold off whoever writes to a store, while it is made, extended or started anew."""
    store.parent.mkdir(parents=True, exist_ok=True)
    with _opened(store) as lock, _held(lock, fcntl.LOCK_EX, _LAYOUT, 1):
        yield


def is_claimed(store: Path, first: int, last: int) -> bool:
    """Whether a process, on this or another node, has claimed any of these items."""
    try:
        lock = os.open(lock_file(store), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, last - first, first)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        # Closing frees the lock.
        os.close(lock)
    return False


@contextmanager
def _opened(store: Path) -> Iterator[int]:
    lock = os.open(lock_file(store), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _held(
    lock: int, kind: int, start: int, count: int, waiting: str | None = None
) -> Iterator[None]:
    try:
        try:
            fcntl.lockf(lock, kind | fcntl.LOCK_NB, count, start)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if waiting is not None:
                print(waiting, file=sys.stderr, flush=True)
            fcntl.lockf(lock, kind, count, start)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        print("this file system has no locks: going on without", file=sys.stderr)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN, count, start)


def _waiting_for(store: Path, first: int, last: int | None) -> str:
    to = "on" if last is None else f"to {last - 1}"
    return (
        f"{store}: another process explains items {first} {to}, or some of them; this one waits "
        "until it ends, and does then what is left"
    )


def _is_still(store: Path, folder: int) -> bool:
    try:
        found, held = os.stat(store), os.fstat(folder)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)
