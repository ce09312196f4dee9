"""Boxes: the part of a layer's maps that a window changes, and activations kept in that form."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from math import prod

import numpy as np
import torch
from torch import Tensor

from preddiff.windows import IntArray


@dataclass(frozen=True)
class Field:
    """Which units a convolution or pooling reads, along each axis.

    Attributes
    ----------
    kernel, stride, padding, dilation : tuple of int
        Unit o of the output reads units o * stride - padding + j * dilation of the input, for j
        from 0 to kernel - 1.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def reach(self) -> IntArray:
        """Distance of the first and the last unit that are read, along each axis."""
        return (np.array(self.kernel, dtype=np.int64) - 1) * np.array(self.dilation)


@dataclass(frozen=True)
class Boxes:
    """Boxes of one size in a layer's maps, one for each window.

    Outside of its box a map is as for the intact input; inside it may differ.

    Attributes
    ----------
    starts : int64 array (windows, dimensions)
        First unit of each box; negative or beyond the map where a box hangs over its border.
    size : tuple of int
    """

    starts: IntArray
    size: tuple[int, ...]

    @classmethod
    def covering(cls, first: IntArray, last: IntArray, space: Sequence[int]) -> "Boxes":
        """Smallest boxes of one size that lie inside the map and hold units `first` to `last`.

        Parameters
        ----------
        first, last : int64 arrays (windows, dimensions)
        space : sequence of int
            Units of the map along each axis.
        """
        limit = np.array(space, dtype=np.int64)
        first, last = np.clip(first, 0, limit - 1), np.clip(last, 0, limit - 1)
        size = np.maximum((last - first + 1).max(axis=0), 1)
        return cls(np.minimum(first, limit - size), tuple(int(n) for n in size))

    @property
    def last(self) -> IntArray:
        """Last unit of each box."""
        return self.starts + np.array(self.size) - 1

    def through(self, field: Field, space: Sequence[int]) -> "Boxes":
        """Boxes of the units, in an output of `space`, that read any unit of these boxes."""
        stride, padding = np.array(field.stride), np.array(field.padding)
        first = -((field.reach - padding - self.starts) // stride)
        return Boxes.covering(first, (self.last + padding) // stride, space)

    def read_by(self, field: Field) -> "Boxes":
        """Boxes of all units that the units in these boxes of the output read."""
        stride, padding = np.array(field.stride), np.array(field.padding)
        size = (np.array(self.size) - 1) * stride + field.reach + 1
        return Boxes(self.starts * stride - padding, tuple(int(n) for n in size))

    def union(self, other: "Boxes", space: Sequence[int]) -> "Boxes":
        """Boxes that hold both boxes of each window."""
        first = np.minimum(self.starts, other.starts)
        return Boxes.covering(first, np.maximum(self.last, other.last), space)

    def same_as(self, other: "Boxes") -> bool:
        """Whether these are the same boxes."""
        return self.size == other.size and np.array_equal(self.starts, other.starts)

    def units(self, space: Sequence[int]) -> IntArray:
        """Units of every box in the flattened map; one past the map's last where it hangs over.

        Returns
        -------
        int64 array (windows, units of a box), in C order.
        """
        count = len(self.starts)
        number = np.zeros((count,) + (1,) * len(space), dtype=np.int64)
        inside = np.ones_like(number, dtype=bool)
        for axis, length in enumerate(space):
            shape = [count] + [1] * len(space)
            shape[axis + 1] = self.size[axis]
            along = (self.starts[:, axis, None] + np.arange(self.size[axis])).reshape(shape)
            number = number * length + along
            inside = inside & (along >= 0) & (along < length)
        return np.where(inside, number, prod(space)).reshape(count, -1)

    def overlap(self, other: "Boxes") -> tuple[IntArray, IntArray]:
        """Units that lie in both boxes of a window.

        Returns
        -------
        ours, theirs : int64 arrays (n,)
            Their places in all boxes of this kind and of the other, flattened in C order of
            (window, *box), in the same order.
        """
        counts = range(len(self.size))
        index = np.indices((len(self.starts), *self.size), sparse=True)
        place = index[0]
        inside = np.ones((1,) * (len(self.size) + 1), dtype=bool)
        for axis in counts:
            shift = (self.starts[:, axis] - other.starts[:, axis]).reshape(
                (-1,) + (1,) * len(self.size)
            )
            along = index[axis + 1] + shift
            inside = inside & (along >= 0) & (along < other.size[axis])
            place = place * other.size[axis] + along
        ours = np.flatnonzero(inside)
        return ours, np.broadcast_to(place, inside.shape).reshape(-1)[ours]


class Intact:
    """Activations of a layer for the intact input, as every variant has them outside its box.

    Parameters
    ----------
    maps : tensor (1, channels, *space)
        In another order of axes if they belong to `Arranged` activations.
    """

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps
        self.space = tuple(maps.shape[2:])
        self._rows: dict[float, Tensor] = {}
        self._others: dict[Hashable, Intact] = {}

    def made_once(self, key: Hashable, make: Callable[[Tensor], Tensor]) -> "Intact":
        """Other maps that are made of these, which are stored under a key."""
        if key not in self._others:
            self._others[key] = Intact(make(self.maps))
        return self._others[key]

    def rows(self, padding: float) -> Tensor:
        """One row of channels for every unit, and one more of the padding's value."""
        if padding not in self._rows:
            rows = self.maps[0].flatten(1).T
            last = rows.new_full((1, rows.shape[1]), padding)
            self._rows[padding] = torch.cat([rows, last])
        return self._rows[padding]

    @cached_property
    def means(self) -> Tensor:
        """Mean of every map over its units, float64 (1, channels)."""
        return self.maps.flatten(2).mean(2, dtype=torch.float64)


@dataclass(frozen=True)
class Changed:
    """Activations of a layer for variants of one input: the intact ones, but for a box in each.

    Attributes
    ----------
    intact : Intact
    values : tensor (windows * draws, channels, *boxes.size)
        Activations in the boxes, all draws of the first window first.
    boxes : Boxes
    """

    intact: Intact
    values: Tensor
    boxes: Boxes

    @property
    def draws(self) -> int:
        """Variants for each window."""
        return len(self.values) // len(self.boxes.starts)

    @property
    def space(self) -> tuple[int, ...]:
        """Units of a map along each axis."""
        return self.intact.space

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (windows * draws, channels, *space) of the whole activations."""
        return (*self.values.shape[:2], *self.intact.space)

    @property
    def share(self) -> float:
        """Share of the map that a box covers."""
        return prod(self.boxes.size) / prod(self.intact.space)

    def read(self, boxes: Boxes, padding: float = 0.0) -> Tensor:
        """Activations in other boxes, beyond the map's border the padding's value.

        Returns
        -------
        tensor (windows * draws, channels, *boxes.size)
        """
        if boxes.same_as(self.boxes):
            return self.values
        rows = self.intact.rows(padding)
        if _has_kernel(rows.device):
            return self._gathered_and_pasted(rows, boxes)
        units = np.repeat(boxes.units(self.intact.space), self.draws, axis=0).reshape(-1)
        return self._filled(rows.index_select(0, torch.from_numpy(units).to(rows.device)), boxes)

    def whole(self) -> Tensor:
        """Activations of the whole maps, shape `shape`."""
        everywhere = Boxes(np.zeros_like(self.boxes.starts), self.intact.space)
        rows = self.intact.rows(0.0)
        if _has_kernel(rows.device):
            return self._gathered_and_pasted(rows, everywhere)
        return self._filled(rows[:-1].repeat(len(self.values), 1), everywhere)

    def mean_changes(self) -> Tensor:
        """Change of every map's mean over its units, float64 (windows * draws, channels)."""
        units = torch.from_numpy(self.boxes.units(self.intact.space)).to(self.values.device)
        before = self.intact.rows(0.0)[units].sum(1, dtype=torch.float64)
        after = self.values.flatten(2).sum(2, dtype=torch.float64)
        return (after - before.repeat_interleave(self.draws, 0)) / prod(self.intact.space)

    @property
    def channels(self) -> int:
        """Number of maps."""
        return self.values.shape[1]

    def _gathered_and_pasted(self, rows: Tensor, boxes: Boxes) -> Tensor:
        from preddiff.engines.incremental.paste import gather_and_paste

        return gather_and_paste(
            rows, self.intact.space, self.values, self.boxes.starts, boxes.starts, boxes.size
        )

    def _filled(self, rows: Tensor, boxes: Boxes) -> Tensor:
        """Put the changed units into rows for every unit of some boxes."""
        places, sources = boxes.overlap(self.boxes)
        places = _for_draws(places, prod(boxes.size), self.draws)
        sources = _for_draws(sources, prod(self.boxes.size), self.draws)
        changed = self.values.movedim(1, -1).reshape(-1, self.channels).to(rows.dtype)
        if not np.array_equal(sources, np.arange(len(changed))):
            changed = changed.index_select(0, torch.from_numpy(sources).to(rows.device))
        rows.index_copy_(0, torch.from_numpy(places).to(rows.device), changed)
        return rows.reshape(len(self.values), *boxes.size, self.channels).movedim(-1, 1)


def _has_kernel(device: torch.device) -> bool:
    """Whether regions are read by one launch of a Triton kernel, which needs a GPU."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    # Imported here, since only torch's builds for GPUs come with Triton.
    from preddiff.engines.incremental.paste import usable

    return usable(device)


def _for_draws(places: IntArray, size: int, draws: int) -> IntArray:
    """Convert places in the boxes of windows to places in the boxes of all their draws.

    Their order depends only on the number of places in each window, so that places in two kinds of
    boxes still match.
    """
    window, unit = np.divmod(places, size)
    counts = np.bincount(window)
    if len(counts) and (counts == counts[0]).all():
        # In the order of memory, which is the faster one to copy in.
        first = (np.arange(len(counts))[:, None] * draws + np.arange(draws))[..., None]
        return (first * size + unit.reshape(len(counts), 1, -1)).reshape(-1)
    return ((window[:, None] * draws + np.arange(draws)) * size + unit[:, None]).reshape(-1)
