"""Whether a process waits for a lock, as Linux says."""

import re
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest


def waits_for_a_lock(process: BaseProcess) -> bool:
    """Wait until a process waits for a lock, which is true, or has ended."""
    if not Path("/proc/locks").exists():
        pytest.skip("this system does not list its locks")
    waiting = re.compile(rf"-> POSIX .* {process.pid} ")
    while process.is_alive():
        if waiting.search(Path("/proc/locks").read_text()):
            return True
        time.sleep(0.001)
    return False
