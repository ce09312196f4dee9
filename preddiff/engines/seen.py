"""What a classifier sees of redrawn windows, some of which overlap the border of what it sees."""

import numpy as np
import torch
from torch import Tensor

from preddiff.windows import Block, IntArray, Windows, offsets


def seen_voxels(windows: Windows, block: Block, channels: int) -> IntArray:
    """Return the voxels of the boxes of a block's windows (`Windows.boxes`).

    Returns
    -------
    int64 array (windows in block, channels * voxels of a box)
        Indices into the flattened input of the classifier.
    """
    space = tuple(part.stop - part.start for part in windows.view)
    first = np.ravel_multi_index(tuple(windows.boxes(block).T), space)
    voxels: IntArray = first[:, None] + offsets(windows.box, space, channels)
    return voxels


def seen_draws(x: Tensor, draws: Tensor, windows: Windows, block: Block) -> Tensor:
    """Return draws as values of the boxes of their windows (`Windows.boxes`).

    Parameters
    ----------
    x : tensor (channels, *space)
        The intact input of the classifier.
    draws : tensor (windows in block, S, channels * k**d)
    windows : Windows
    block : Block

    Returns
    -------
    tensor (windows in block, S, channels * voxels of a box)
        Voxels of a box that are not in its window have the values of the input.
    """
    if windows.seen is None:
        return draws
    k, dimensions, channels = windows.k, len(windows.space), len(x)
    shift = windows.boxes(block) + windows.corner - windows.first_voxels(block)
    # Places of the voxels of each box in its window, (windows, dimensions, voxels).
    place = shift[..., None] + np.indices(windows.box).reshape(dimensions, -1)
    is_redrawn = ((place >= 0) & (place < k)).all(axis=1)
    inside = np.moveaxis(np.clip(place, 0, k - 1), 1, 0)
    index = np.ravel_multi_index(tuple(inside), (k,) * dimensions)
    of_channels = np.arange(channels)[:, None] * k**dimensions + index[:, None]
    source = torch.from_numpy(of_channels.reshape(len(index), 1, -1)).to(x.device)
    redrawn = draws.gather(2, source.expand(-1, draws.shape[1], -1))
    known = x.reshape(-1)[torch.from_numpy(seen_voxels(windows, block, channels)).to(x.device)]
    mask = torch.from_numpy(np.tile(is_redrawn, (1, channels))).to(x.device)
    return torch.where(mask[:, None], redrawn, known[:, None])
