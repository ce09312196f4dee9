"""Gather and paste: regions around boxes as one Triton kernel, for GPUs."""

import sys
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from preddiff.windows import IntArray

# Numbers that one program of the kernel copies, and channels among them at most.
_NUMBERS = 2048
_CHANNELS = 128


@cache
def usable(device: torch.device) -> bool:
    """Whether Triton compiles here and gives correct results; reports once if it does not."""
    rows = torch.arange(5.0, device=device)[:, None]
    values = rows.new_full((1, 1, 1, 1), 9.0)
    start = np.array([[0, 1]])
    try:
        found = gather_and_paste(rows, (2, 2), values, start, start - 1, (2, 3))
    except Exception as error:
        # A compiler may be missing, or the GPU too old or too new: then torch does it, more slowly.
        found, reason = None, f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        reason = "it gave wrong numbers"
    if found is not None and found.flatten().tolist() == [4.0, 4.0, 4.0, 0.0, 9.0, 4.0]:
        return True
    print(
        f"Triton cannot be used on {device} ({reason}): boxes are gathered by torch",
        file=sys.stderr,
    )
    return False


def gather_and_paste(
    rows: Tensor,
    space: Sequence[int],
    values: Tensor,
    sources: IntArray,
    starts: IntArray,
    size: Sequence[int],
) -> Tensor:
    """Read regions of maps of which one box each has changed.

    Parameters
    ----------
    rows : tensor (units + 1, channels)
        Activations of the intact maps, and a last row for what lies beyond their border.
    space : sequence of int
        Units of the maps along each of two or three axes.
    values : tensor (windows * draws, channels, *box)
        Activations in the changed boxes, all draws of the first window first.
    sources : int64 array (windows, dimensions)
        First unit of each changed box; boxes lie inside the maps.
    starts : int64 array (windows, dimensions)
        First unit of each region.
    size : sequence of int
        Units of a region along each axis.

    Returns
    -------
    tensor (windows * draws, channels, *size)
        Its channels lie together in memory. Of the type of `rows`.
    """
    count, channels = values.shape[:2]
    box = values.shape[2:]
    out = rows.new_empty((count, *size, channels))
    places = count * prod(size)
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    positions = max(1, _NUMBERS // block)
    corners = np.concatenate([_on_three_axes(starts, 0), _on_three_axes(sources, 0)], axis=1)
    _copy[(triton.cdiv(places, positions), triton.cdiv(channels, block))](
        rows,
        values.movedim(1, -1).contiguous(),
        torch.from_numpy(corners.astype(np.int32)).to(rows.device, non_blocking=True),
        out,
        places,
        count // len(starts),
        channels,
        *_on_three_axes(space, 1),
        *_on_three_axes(size, 1),
        *_on_three_axes(box, 1),
        POSITIONS=positions,
        BLOCK=block,
    )
    return out.movedim(-1, 1)


def _on_three_axes(along: Any, missing: int) -> Any:
    """Pad numbers along two axes to three axes."""
    if isinstance(along, np.ndarray):
        lacking = 3 - along.shape[1]
        return np.pad(along, ((0, 0), (lacking, 0)), constant_values=missing)
    return (missing,) * (3 - len(along)) + tuple(along)


@triton.jit  # type: ignore[untyped-decorator]
def _copy(  # type: ignore[no-untyped-def]
    rows,
    values,
    corners,
    out,
    places,
    draws,
    channels,
    space_z, space_y, space_x,
    size_z, size_y, size_x,
    box_z, box_y, box_x,
    POSITIONS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    wanted = place < places
    variant = place // (size_z * size_y * size_x)
    corner = corners + variant // draws * 6

    z = place // (size_y * size_x) % size_z + tl.load(corner, mask=wanted, other=0)
    y = place // size_x % size_y + tl.load(corner + 1, mask=wanted, other=0)
    x = place % size_x + tl.load(corner + 2, mask=wanted, other=0)
    inside = (z >= 0) & (z < space_z) & (y >= 0) & (y < space_y) & (x >= 0) & (x < space_x)
    unit = tl.where(inside, (z * space_y + y) * space_x + x, space_z * space_y * space_x)

    z -= tl.load(corner + 3, mask=wanted, other=0)
    y -= tl.load(corner + 4, mask=wanted, other=0)
    x -= tl.load(corner + 5, mask=wanted, other=0)
    changed = (z >= 0) & (z < box_z) & (y >= 0) & (y < box_y) & (x >= 0) & (x < box_x)
    source = ((variant * box_z + z) * box_y + y) * box_x + x

    both = wanted[:, None] & (channel < channels)[None, :]
    new = both & changed[:, None]
    old = both & ~changed[:, None]
    after = tl.load(values + source[:, None] * channels + channel[None, :], mask=new, other=0.0)
    before = tl.load(rows + unit[:, None] * channels + channel[None, :], mask=old, other=0.0)
    number = tl.where(changed[:, None], after.to(before.dtype), before)
    tl.store(out + place[:, None] * channels + channel[None, :], number, mask=both)
