"""Arithmetic, joining and splitting of changed activations."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from preddiff.engines.incremental.arranged import (
    CHANNELS,
    Activations,
    Arranged,
    activations,
    arranged,
)
from preddiff.engines.incremental.boxes import Changed, Intact
from preddiff.engines.incremental.operations.base import (
    Operation,
    are_alike,
    joint,
    of_channels,
)
from preddiff.engines.incremental.operations.sampling import cut

ARITHMETIC: dict[Any, Callable[..., Tensor]] = {
    operator.add: operator.add, operator.mul: operator.mul, operator.pow: operator.pow,
    operator.sub: operator.sub, operator.truediv: operator.truediv,
    torch.add: torch.add, torch.div: torch.div, torch.maximum: torch.maximum,
    torch.minimum: torch.minimum, torch.mul: torch.mul, torch.pow: torch.pow, torch.sub: torch.sub,
    "add": torch.add, "div": torch.div, "mul": torch.mul, "pow": torch.pow, "sub": torch.sub,
}  # fmt: skip


def arithmetic(function: Callable[..., Tensor]) -> Operation:
    """Operation on two arguments, of which one may be a number or the same at all units."""

    def operation(intact: Intact, input: Any, other: Any, **kwargs: Any) -> Activations | None:
        maps = [x for x in (input, other) if isinstance(x, Changed | Arranged)]
        constants = [x for x in (input, other) if isinstance(x, Tensor)]
        axes = arranged(maps[0]).axes
        if not are_alike(maps) or not all(_is_same_at_all_units(x, axes) for x in constants):
            return None
        boxes = joint(maps)
        x, y = (z.read(boxes) if isinstance(z, Changed | Arranged) else z for z in (input, other))
        return activations(intact, function(x, y, **kwargs), boxes, axes)

    return operation


def _is_same_at_all_units(x: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether a tensor that is combined with activations is the same at all of their units."""
    # The first axis is that of the variants.
    last = zip(reversed(x.shape), reversed((0, *axes)), strict=False)
    return x.ndim <= 1 + len(axes) and all(n == 1 or axis == CHANNELS for n, axis in last)


def concatenation(intact: Intact, tensors: Any, dim: int = 0) -> Activations | None:
    """Activations one after the other along an axis of channels."""
    if not all(isinstance(part, Changed | Arranged) for part in tensors):
        return None
    first = arranged(tensors[0])
    if not are_alike(tensors) or not of_channels(first, [dim]):
        return None
    boxes = joint(tensors)
    values = torch.cat([part.read(boxes) for part in tensors], dim)
    return activations(intact, values, boxes, first.axes)


def chunks(
    intact: tuple[Intact, ...], input: Activations, chunks: int, dim: int = 0
) -> tuple[Activations, ...] | None:
    """Several parts of the channels."""
    return _parts(intact, input, dim, lambda values: torch.chunk(values, chunks, dim))


def split(
    intact: tuple[Intact, ...],
    tensor: Activations,
    split_size_or_sections: Any = None,
    dim: int = 0,
    split_size: Any = None,
) -> tuple[Activations, ...] | None:
    """Parts of the channels, of given sizes."""
    sizes = split_size if split_size_or_sections is None else split_size_or_sections
    return _parts(intact, tensor, dim, lambda values: torch.split(values, sizes, dim))


def _parts(
    intact: tuple[Intact, ...],
    input: Activations,
    dim: int,
    function: Callable[[Tensor], tuple[Tensor, ...]],
) -> tuple[Activations, ...] | None:
    x = arranged(input)
    if not of_channels(x, [dim]):
        return None
    parts = zip(intact, function(x.values), strict=True)
    return tuple(activations(of, values, x.boxes, x.axes) for of, values in parts)


def item(intact: Intact, input: Any, index: Any) -> Any:
    """One of several parts, or a part of the channels, or of the units of maps."""
    if isinstance(input, tuple | list):
        return input[index]
    x = arranged(input)
    slices = _slices(index, len(x.shape))
    if slices is None or slices[0] != slice(None):
        return None
    pairs = list(zip(slices[1:], x.axes, strict=True))
    if all(one == slice(None) for one, axis in pairs if axis != CHANNELS):
        return activations(intact, x.values[tuple(slices)], x.boxes, x.axes)
    if not isinstance(input, Changed):
        return None
    channels, *of_space = slices[1:]
    if channels != slice(None):
        some = input.intact.made_once(str(channels), lambda maps: maps[:, channels])
        input = Changed(some, input.values[:, channels], input.boxes)
    return cut(intact, input, of_space)


def _slices(index: Any, count: int) -> list[slice] | None:
    """One slice for each axis; None if the index holds anything else."""
    given = list(index) if isinstance(index, tuple) else [index]
    if sum(one is ... for one in given) == 0:
        given.append(...)
    if not all(one is ... or isinstance(one, slice) for one in given):
        return None
    place = given.index(...)
    missing = count - (len(given) - 1)
    return [*given[:place], *[slice(None)] * missing, *given[place + 1 :]]
