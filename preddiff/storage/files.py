"""Files and folders that are written atomically: under their names they are complete, or absent.

They are written under a temporary name, `.<8 hexadecimal digits>.<name>`, and renamed at the end. A
process that is killed leaves what it was writing under that name; `remove_leftovers` deletes it.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Provide a temporary file beside `path`, and rename it to `path` unless the body raises.

    Yields
    ------
    Path
        The temporary file, which the body creates. Its suffix is that of `path`, since some
        writers take the format from it.
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
    """Provide an empty folder beside `path`, and rename it to `path` unless the body raises.

    What was at `path` before is deleted, unless the body moved it away.

    Yields
    ------
    Path
        The temporary folder.
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
    """Delete a folder, if it exists; it is never seen half deleted under its name."""
    if path.exists():
        renamed = _beside(path)
        path.rename(renamed)
        shutil.rmtree(renamed)


def remove_leftovers(path: Path) -> None:
    """Delete temporary files and folders beside `path` that killed processes left."""
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
