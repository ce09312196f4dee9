"""Draws: the protocol of samplers, the seeds of draws, and the voxels that they replace."""

import hashlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from preddiff.windows import Block, IntArray, Windows, offsets


def generator(seed: int, item: str, block: Block) -> torch.Generator:
    """Create the random generator of one block of one item, on the host.

    Draws depend on seed, item and block only, not on batch size, shard, restart or device.
    """
    return torch.Generator().manual_seed(seed_of(seed, item, block.number))


def seed_of(*parts: int | str, bits: int = 63) -> int:
    """Derive the seed of a random generator from the names and numbers that identify it.

    Parameters
    ----------
    *parts : int or str
    bits : int
        Bits of the seed: torch takes 63, NumPy any number.
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)


class Sampler(Protocol):
    """Redraws windows."""

    @property
    def random(self) -> bool:
        """Whether draws differ: a sampler that is not random draws each window once."""
        ...

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw the windows of a block.

        Draws are made on the host, so that they are the same on every device.

        Parameters
        ----------
        x : float32 tensor (channels, *space)
            The intact input, on any device; for a sampler whose settings ask for more of the items
            (`SamplerSettings.context`), with what lies around it.
        item : str
            Name of the item.
        windows : Windows
            Windows of `x`, or of the part of it that is the classifier's input.
        block : Block
        samples : int
            Number S of draws per window.
        generator : torch.Generator
            On the host, also if the input is on another device.

        Returns
        -------
        float32 tensor (windows in block, S or 1, channels * k**d)
            On the device of the input; 1 draw if the sampler is not random.
        """
        ...


def window_voxels(windows: Windows, block: Block, channels: int) -> IntArray:
    """Return the voxels of a block's windows, as indices into the flattened input.

    Returns
    -------
    int64 array (windows in block, channels * k**d)
    """
    first = np.ravel_multi_index(tuple(windows.first_voxels(block).T), windows.space)
    voxels: IntArray = first[:, None] + offsets(windows.k, windows.space, channels)
    return voxels
