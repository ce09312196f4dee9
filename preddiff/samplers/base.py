"""What samplers have in common: their protocol, the seeds of their draws, windows' voxels."""

import hashlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from preddiff.windows import Block, IntArray, Windows, offsets


def generator(seed: int, item: str, block: Block) -> torch.Generator:
    """Source of the draws of one block of one item, on the host.

    Draws are a function of seed, item and block alone: never of batch size, shard, restart or
    device.
    """
    return torch.Generator().manual_seed(seed_of(seed, item, block.number))


def seed_of(*parts: int | str) -> int:
    """Seed for one of many sources of random numbers, from what names it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Sampler(Protocol):
    """What redraws a window."""

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw the windows of a block anew.

        Draws are made on the host, so that they are the same on every device.

        Parameters
        ----------
        x : float32 tensor (channels, *space)
            The intact input, on any device.
        item : str
            Name of the item.
        windows : Windows
        block : Block
        samples : int
            Number S of draws per window.
        generator : torch.Generator
            Of the host, whatever the input's device.

        Returns
        -------
        float32 tensor (windows in block, S or 1, channels * k**d)
            On the input's device; 1 where the sampler is not random.
        """
        ...


def window_voxels(windows: Windows, block: Block, channels: int) -> IntArray:
    """Voxels of a block's windows in the flattened input (channels, *space).

    Returns
    -------
    int64 array (windows in block, channels * k**d)
    """
    first = np.ravel_multi_index(tuple(windows.first_voxels(block).T), windows.space)
    voxels: IntArray = first[:, None] + offsets(windows.k, windows.space, channels)
    return voxels
