"""Progress of long loops: a bar on a terminal, now and then a line in a log file."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

# Seconds between two lines where the output is no terminal.
_INTERVAL = 10.0


class _Lines:
    """A text file in which every state of a progress bar is a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        line = text.strip("\r\n")
        if line:
            self.file.write(line + "\n")

    def flush(self) -> None:
        self.file.flush()


def options() -> dict[str, Any]:
    """Options for tqdm and what is built on it, after where standard error goes."""
    if sys.stderr.isatty():
        return {}
    return {"file": _Lines(sys.stderr), "mininterval": _INTERVAL, "maxinterval": _INTERVAL}


def progress(iterable: Iterable[Any] | None = None, **keywords: Any) -> Any:
    """Show progress with rate and time left; takes what `tqdm.tqdm` takes."""
    return tqdm(iterable, **keywords, **options())
