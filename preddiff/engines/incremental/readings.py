"""Readings: which units along an axis a layer reads where no kernel slides over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.engines.incremental.boxes import Boxes, Changed, Intact
from preddiff.windows import IntArray

# Length of the axes along which nothing is resized, when `Reading.by` finds out about another.
OTHER_AXES = 2


@dataclass(frozen=True)
class Reading:
    """Units of the input that each unit of the output reads, along one axis.

    Attributes
    ----------
    first, last : int64 arrays (units of the output,)
        Negative or beyond the axis where padding is read.
    weights : float64 array (units of the output, units of the input), optional
        The output is the sum of the input by these weights; without them, it is the input at
        `first`, which is then `last` too.
    """

    first: IntArray
    last: IntArray
    weights: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, units: IntArray) -> "Reading":
        """Reading of one unit by each unit of the output."""
        return cls(units, units)

    @classmethod
    def by(
        cls, resize: Callable[[Tensor], Tensor], axis: int, length: int, dimensions: int
    ) -> "Reading":
        """Reading of a linear function of maps, along one axis.

        Parameters
        ----------
        resize : function
            From tensors (n, 1, *space) to tensors of the same shape, except along the axis.
        axis, length : int
            Of the spatial axes, and its units.
        dimensions : int
            Number of the spatial axes.
        """
        others = [1] * dimensions
        others[axis] = length
        # Not of length 1, for which torch 2.14 resizes wrongly where `antialias` is given.
        space = [OTHER_AXES] * dimensions
        space[axis] = length
        basis = torch.eye(length, dtype=torch.float64).reshape(length, 1, *others)
        found = resize(basis.expand(length, 1, *space)).movedim(axis + 2, 1)
        weights: NDArray[np.float64] = found.flatten(2)[:, :, 0].T.numpy()
        read = weights != 0
        first = read.argmax(axis=1)
        last = length - 1 - read[:, ::-1].argmax(axis=1)
        if (first == last).all() and (weights.max(axis=1) == 1).all():
            return cls.of(first)
        return cls(first, last, weights)


def read_through(
    intact: Intact, input: Changed, readings: Sequence[Reading], padding: float = 0.0
) -> Changed:
    """Output, as changed maps, of a layer that reads its input in a known way along each axis."""
    boxes = _boxes_through(input.boxes, readings, intact.space)
    return Changed(intact, _values(input, boxes, readings, padding), boxes)


def _boxes_through(boxes: Boxes, readings: Sequence[Reading], space: Sequence[int]) -> Boxes:
    """Boxes of the units of the output that read any unit of some boxes."""
    first, last = np.zeros_like(boxes.starts), np.zeros_like(boxes.starts)
    for axis, reading in enumerate(readings):
        reads = (reading.first <= boxes.last[:, axis, None]) & (
            reading.last >= boxes.starts[:, axis, None]
        )
        any_reads = reads.any(axis=1)
        end = reads.shape[1] - 1 - reads[:, ::-1].argmax(axis=1)
        first[:, axis], last[:, axis] = reads.argmax(axis=1), np.where(any_reads, end, 0)
    return Boxes.covering(first, last, space)


def _values(input: Changed, boxes: Boxes, readings: Sequence[Reading], padding: float) -> Tensor:
    units = [boxes.starts[:, axis, None] + np.arange(size) for axis, size in enumerate(boxes.size)]
    first = [reading.first[of] for reading, of in zip(readings, units, strict=True)]
    last = [reading.last[of] for reading, of in zip(readings, units, strict=True)]
    starts = np.stack([of.min(axis=1) for of in first], axis=1)
    ends = np.stack([of.max(axis=1) for of in last], axis=1)
    region = Boxes(starts, tuple(int(n) for n in (ends - starts + 1).max(axis=0)))
    values = input.read(region, padding)
    for axis, reading in enumerate(readings):
        start = starts[:, axis, None]
        if reading.weights is None:
            values = _taken(values, first[axis] - start, axis + 2, input.draws)
        else:
            columns = start + np.arange(region.size[axis])
            inside = columns < reading.weights.shape[1]
            columns = np.where(inside, columns, 0)
            weights = reading.weights[units[axis][:, :, None], columns[:, None]] * inside[:, None]
            values = _weighted(values, torch.from_numpy(weights), axis + 2)
    return values


def _taken(values: Tensor, places: IntArray, axis: int, draws: int) -> Tensor:
    """Values at places (windows, n) along an axis."""
    if (places == places[0]).all():
        if np.array_equal(places[0], np.arange(values.shape[axis])):
            return values
        return values.index_select(axis, torch.from_numpy(places[0]).to(values.device))
    shape = [-1] + [1] * (values.ndim - 1)
    shape[axis] = places.shape[1]
    index = torch.from_numpy(np.repeat(places, draws, axis=0)).to(values.device).reshape(shape)
    return torch.take_along_dim(values, index, axis)


def _weighted(values: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Sums along an axis by weights (windows, units of the output, units of the input)."""
    kind = torch.promote_types(values.dtype, torch.float32)
    with torch.autocast(values.device.type, enabled=False):
        # All draws of a window share its weights.
        x = values.to(kind).movedim(axis, -1)
        rows = x.reshape(len(weights), -1, x.shape[-1]) @ weights.to(values.device, kind).mT
        found = rows.reshape(*x.shape[:-1], -1).movedim(-1, axis)
    return found.to(values.dtype)
