"""Progress of long loops: a bar on a terminal, or one line every few seconds in a log file."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

# Seconds between two lines if the output is not a terminal.
_INTERVAL = 10.0


class _Lines:
    """A text file to which each state of a progress bar is written as a separate line."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        line = text.strip("\r\n")
        if line:
            self.file.write(line + "\n")

    def flush(self) -> None:
        self.file.flush()


def options() -> dict[str, Any]:
    """Return options for tqdm, which depend on whether standard error is a terminal."""
    if sys.stderr.isatty():
        return {}
    return {"file": _Lines(sys.stderr), "mininterval": _INTERVAL, "maxinterval": _INTERVAL}


def progress(iterable: Iterable[Any] | None = None, **keywords: Any) -> Any:
    """Show progress with rate and remaining time; the arguments are those of `tqdm.tqdm`."""
    return tqdm(iterable, **keywords, **options())
