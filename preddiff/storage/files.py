"""Files and folders that appear whole or not at all."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`; rename it to `path` if the body ends well.

    Yields
    ------
    Path
        The temporary file's path; the same suffix, so that writers which look at it agree.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; put it in the place of `path` if the body ends well.

    Yields
    ------
    Path
        The temporary folder's path; the folder exists and is empty.
    """
    remove_leftovers(path)
    temporary = _beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        remove_folder(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder, if it exists, so that no moment shows half of it under its name."""
    if path.exists():
        doomed = _beside(path)
        path.rename(doomed)
        shutil.rmtree(doomed)


def remove_leftovers(path: Path) -> None:
    """Delete temporary files and folders that killed processes left beside `path`."""
    temporary = re.compile(rf"\.[0-9a-f]{{8}}\.{re.escape(path.name)}")
    if not path.parent.is_dir():
        return
    for found in list(path.parent.iterdir()):
        if temporary.fullmatch(found.name):
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
