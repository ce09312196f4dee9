"""Locks between the jobs of a study, on one node or several; a lock is freed when its owner dies.

They are POSIX record locks on one small file beside a store, each byte of which stands for an item.
Local file systems and those that nodes share (NFS 4, GPFS, BeeGFS, Lustre mounted with `flock`)
free a lock when its process ends or its node is lost. On a file system without locks, jobs go on
without them: files are still written atomically, but two jobs may do the same work.

POSIX locks belong to a process, which loses all that it has on a file when it closes that file
once. So a process holds one claim on a store at a time, and asks for no other lock meanwhile.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from preddiff.errors import InputError

# Byte that stands for the store as a whole; items have the bytes before it.
_STORE = 1 << 40
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def lock_file(store: Path) -> Path:
    """File that the locks of a store are taken on."""
    return store.with_suffix(".lock")


class Claim:
    """Items of a store that no other process explains at the same time; see `claim`."""

    def __init__(self, store: Path, lock: int, folder: int) -> None:
        self.store = store
        self._lock = lock
        self._folder = folder

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the store from being moved, replaced or deleted while something is written to it.

        Raises
        ------
        InputError
            If the store was deleted, set aside or replaced since it was claimed.
        """
        with _locked(self._lock, fcntl.LOCK_SH, _STORE, 1):
            self._require_same_folder()
            try:
                yield
            except OSError:
                # If the folder is gone, that is the message that helps.
                self._require_same_folder()
                raise

    def _require_same_folder(self) -> None:
        if not _is_folder_of(self.store, self._folder):
            raise InputError(
                f"{self.store}: the store was deleted, set aside or replaced while this job was "
                "filling it, so the job stops and writes nothing more; run it again"
            )


@contextmanager
def claim(store: Path, first: int, last: int | None) -> Iterator[Claim]:
    """Claim items of a store for this process.

    While another process has claimed some of them, this one says so on standard error, and waits.

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
            count = (_STORE if last is None else last) - first
            message = _waiting_message(store, first, last)
            with _locked(lock, fcntl.LOCK_EX, first, count, message) as supported:
                if not supported:
                    _warn_without_locks(store)
                yield Claim(store, lock, folder)
    finally:
        os.close(folder)


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Keep all other processes from writing to a store while it is made, moved or replaced."""
    store.parent.mkdir(parents=True, exist_ok=True)
    with _opened(store) as lock, _locked(lock, fcntl.LOCK_EX, _STORE, 1) as supported:
        if not supported:
            _warn_without_locks(store)
        yield


def is_claimed(store: Path, first: int, last: int) -> bool:
    """Whether another process, on this or another node, has claimed any of these items."""
    if last <= first:
        return False
    try:
        lock = os.open(lock_file(store), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, last - first, first)
    except OSError as error:
        return error.errno in _HELD_BY_ANOTHER
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
def _locked(
    lock: int, kind: int, start: int, count: int, waiting: str | None = None
) -> Iterator[bool]:
    """Lock some bytes; yields whether the file system has locks."""
    # For the system, a lock of no bytes is one of all bytes to the end.
    held = count > 0 and _acquire(lock, kind, start, count, waiting)
    try:
        yield held or count <= 0
    finally:
        if held:
            fcntl.lockf(lock, fcntl.LOCK_UN, count, start)


def _acquire(lock: int, kind: int, start: int, count: int, waiting: str | None) -> bool:
    """Take a lock, after waiting if need be; false if the file system has none."""
    try:
        try:
            fcntl.lockf(lock, kind | fcntl.LOCK_NB, count, start)
        except OSError as error:
            if error.errno not in _HELD_BY_ANOTHER:
                raise
            if waiting is not None:
                print(waiting, file=sys.stderr, flush=True)
            fcntl.lockf(lock, kind, count, start)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


@cache
def _warn_without_locks(store: Path) -> None:
    print(
        f"{store}: this file system has no locks, so two jobs may explain the same items",
        file=sys.stderr,
    )


def _waiting_message(store: Path, first: int, last: int | None) -> str:
    end = "the last" if last is None else last - 1
    return (
        f"{store}: another process is explaining some of items {first} to {end}; waiting until it "
        "ends, to compute what is missing then"
    )


def _is_folder_of(store: Path, folder: int) -> bool:
    try:
        found, opened = os.stat(store), os.fstat(folder)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)
