"""Devices: where networks run, and how they use the host."""

import ctypes
import sys

import torch

from preddiff.errors import InputError

# Options of glibc's allocator, from malloc.h, and a size that few activations reach.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


def device_of(setting: str) -> torch.device:
    """Device that a setting asks for.

    Parameters
    ----------
    setting : {"auto", "cpu", "cuda"}
        `auto` takes a GPU where there is one.

    Raises
    ------
    InputError
        If there is no GPU where one is asked for.
    """
    available = torch.cuda.is_available()
    if setting == "cuda" and not available:
        raise InputError("device cuda: torch finds no GPU here; set the device to auto or cpu")
    return torch.device("cuda" if available and setting != "cpu" else "cpu")


def use_cores(threads: int | None) -> None:
    """Let networks run on some cores of the host, and keep the memory that they free.

    Without the latter, glibc gives the memory of every large activation back to the system and
    fetches it again, page by page, for the next pass: a MobileNetV2 then takes three times as long.

    Parameters
    ----------
    threads : int, optional
        As many as torch finds if None.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
