"""Devices that networks run on, and settings of the host."""

import ctypes
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from preddiff.errors import InputError

# Options of glibc's allocator, from malloc.h, and a size that few activations exceed.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30

# Seconds between two attempts to lease a GPU: a process cannot wait for locks on several files.
_POLLING_INTERVAL = 0.5

# Locks of the GPUs that this process has leased, which are held until it ends.
_LEASES: dict[str, int] = {}


def device_of(setting: str) -> torch.device:
    """Return the device for a setting; if there are several GPUs, one that no other job uses.

    Parameters
    ----------
    setting : {"auto", "cpu", "cuda"}
        `auto` uses a GPU if there is one.

    Raises
    ------
    InputError
        If a GPU is requested and there is none.
    """
    available = torch.cuda.is_available()
    if setting == "cuda" and not available:
        raise InputError(
            "device cuda: torch finds no GPU on this machine; set the device to auto or cpu"
        )
    if not available or setting == "cpu":
        return torch.device("cpu")
    names = [
        str(torch.cuda.get_device_properties(n).uuid) for n in range(torch.cuda.device_count())
    ]
    device = torch.device("cuda", lease(names, _lease_folder()))
    # Some code uses the current device only.
    torch.cuda.set_device(device)
    return device


def lease(names: Sequence[str], folder: Path) -> int:
    """Lease a device that no other process on this machine uses; wait until there is one.

    The lease ends with this process, however it ends, because the system then frees its file lock.

    Parameters
    ----------
    names : sequence of str
        Unique names of the devices on this machine.
    folder : Path
        Folder for lock files, common to all processes that share the devices.

    Returns
    -------
    int
        Position among `names`.
    """
    ours = [number for number, name in enumerate(names) if name in _LEASES]
    if ours:
        return ours[0]
    locks = [os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600) for name in names]
    number = _first_free(locks)
    if number is None:
        print(
            f"all {len(names)} GPUs are leased by other jobs: waiting for one; with "
            f"--resources gpu={len(names)}, Snakemake does not start more jobs than that",
            file=sys.stderr,
            flush=True,
        )
    while number is None:
        time.sleep(_POLLING_INTERVAL)
        number = _first_free(locks)
    for other, lock in enumerate(locks):
        if other != number:
            os.close(lock)
    _LEASES[names[number]] = locks[number]
    return number


def _first_free(locks: Sequence[int]) -> int | None:
    for number, lock in enumerate(locks):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return number
    return None


def _lease_folder() -> Path:
    """Return the folder for this user's leases on this machine."""
    folder = Path(tempfile.gettempdir()) / f"preddiff-leases-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder}: belongs to another user; remove it or set TMPDIR")
    return folder


def use_cores(threads: int | None) -> None:
    """Set the number of cores for networks, and keep the memory that they free.

    By default, glibc returns the memory of every large activation to the system and requests it
    again, page by page, in the next forward pass. MobileNetV2 then takes three times as long.

    Parameters
    ----------
    threads : int, optional
        Number of cores; by default, the number that torch chooses.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
