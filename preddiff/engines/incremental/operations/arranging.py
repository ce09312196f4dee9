"""Operations that put the axes of changed activations into another order, or split them."""

from math import prod
from typing import Any

import torch

from preddiff.engines.incremental.arranged import CHANNELS, Activations, activations, arranged
from preddiff.engines.incremental.boxes import Boxes, Intact
from preddiff.engines.incremental.operations.base import Operation, of_channels, positive


def permute(
    intact: Intact, input: Activations, *order: Any, dims: Any = None
) -> Activations | None:
    """Axes in another order, given one by one, as a sequence, or by a name."""
    x = arranged(input)
    order = tuple(positive(x, _sequence(order if dims is None else dims)))
    if order[0] != 0:
        return None
    axes = [x.axes[axis - 1] for axis in order[1:]]
    # Spatial axes are numbered in the order in which they are, here and in the boxes.
    space = [axis for axis in axes if axis != CHANNELS]
    boxes = Boxes(x.boxes.starts[:, space], tuple(x.boxes.size[axis] for axis in space))
    numbers = [axis if axis == CHANNELS else space.index(axis) for axis in axes]
    return activations(intact, x.values.permute(order), boxes, numbers)


def transpose(intact: Intact, input: Activations, dim0: int, dim1: int) -> Activations | None:
    """Two axes exchanged."""
    x = arranged(input)
    order = list(range(len(x.shape)))
    first, second = positive(x, (dim0, dim1))
    order[first], order[second] = second, first
    return permute(intact, input, order)


def _sequence(given: Any) -> list[int]:
    """Numbers that a call gives one by one, or as one sequence."""
    return list(given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given)


def reshape(
    intact: Intact, input: Activations, *size: Any, shape: Any = None
) -> Activations | None:
    """Another shape, in which axes of channels are split or joined and all others stay."""
    x = arranged(input)
    sizes = _sequence(size if shape is None else shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = prod(x.shape) // -prod(sizes)
    axes = _regrouped(x.shape, x.axes, sizes)
    if axes is None:
        return None
    pairs = zip(sizes[1:], axes, strict=True)
    box = [size if axis == CHANNELS else x.boxes.size[axis] for size, axis in pairs]
    return activations(intact, x.values.reshape(len(x.values), *box), x.boxes, axes)


def _regrouped(
    before: tuple[int, ...], axes: tuple[int, ...], after: list[int]
) -> list[int] | None:
    """Axes of another shape, as `Arranged` has them; None if it mixes other axes than channels."""
    if before[0] != after[0]:
        return None
    found: list[int] = []
    old, new = list(zip(before[1:], axes, strict=True)), after[1:]
    while old or new:
        # The fewest next axes of both that hold equally many numbers.
        here, there = [old.pop(0)] if old else [(1, CHANNELS)], [new.pop(0)] if new else [1]
        while (difference := prod(size for size, _ in here) - prod(there)) != 0:
            rest: list[Any] = old if difference < 0 else new
            if not rest:
                return None
            (here if difference < 0 else there).append(rest.pop(0))
        if len(here) == len(there) == 1:
            found.append(here[0][1])
        elif all(axis == CHANNELS for _, axis in here):
            found += [CHANNELS] * len(there)
        else:
            return None
    return found


def flatten(
    intact: Intact, input: Activations, start_dim: int = 0, end_dim: int = -1
) -> Activations | None:
    """Several axes of channels as one."""
    x = arranged(input)
    first, last = positive(x, (start_dim, end_dim))
    shape = x.shape
    return reshape(intact, x, *shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


def of_flatten(module: Any) -> Operation:
    """Operation of a module."""

    def operation(intact: Intact, input: Activations) -> Activations | None:
        return flatten(intact, input, module.start_dim, module.end_dim)

    return operation


def unflatten(intact: Intact, input: Activations, dim: int, sizes: Any) -> Activations | None:
    """One axis of channels as several."""
    x = arranged(input)
    (axis,) = positive(x, [dim])
    if not of_channels(x, [axis]):
        return None
    shape = x.values.shape
    values = x.values.reshape(*shape[:axis], *sizes, *shape[axis + 1 :])
    count = values.ndim - x.values.ndim
    axes = [*x.axes[:axis], *[CHANNELS] * count, *x.axes[axis:]]
    return activations(intact, values, x.boxes, axes)


def of_unflatten(module: Any) -> Operation:
    """Operation of a module."""

    def operation(intact: Intact, input: Activations) -> Activations | None:
        return unflatten(intact, input, module.dim, module.unflattened_size)

    return operation


def unsqueeze(intact: Intact, input: Activations, dim: int) -> Activations | None:
    """One more axis of channels."""
    x = arranged(input)
    axis = dim % (len(x.shape) + 1)
    if axis == 0:
        return None
    axes = [*x.axes[: axis - 1], CHANNELS, *x.axes[axis - 1 :]]
    return activations(intact, x.values.unsqueeze(axis), x.boxes, axes)


def size(intact: Any, input: Activations, dim: int | None = None) -> Any:
    """Shape of the whole activations, or one of its numbers."""
    shape = torch.Size(input.shape)
    return shape if dim is None else shape[dim]


def attribute(intact: Any, input: Activations, name: str) -> Any:
    """Shape of the whole activations, or what they have in common with those in the boxes."""
    if name in ("shape", "ndim"):
        return torch.Size(input.shape) if name == "shape" else len(input.shape)
    return getattr(input.values, name) if name in ("device", "dtype") else None


def number_of_axes(intact: Any, input: Activations) -> int:
    """Number of the axes."""
    return len(input.shape)
