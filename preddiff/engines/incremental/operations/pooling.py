"""Pooling and means over the units of changed activations."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.engines.incremental.arranged import Activations, arranged
from preddiff.engines.incremental.boxes import Changed, Field, Intact
from preddiff.engines.incremental.operations.base import Operation, each, on_maps, positive
from preddiff.engines.incremental.operations.units import over_channels
from preddiff.engines.incremental.readings import OTHER_AXES, Reading, read_through

Pool = Callable[..., Tensor]

MAX_POOLS: dict[type[nn.Module], Pool] = {nn.MaxPool2d: F.max_pool2d, nn.MaxPool3d: F.max_pool3d}
AVERAGE_POOLS: dict[type[nn.Module], Pool] = {
    nn.AvgPool2d: F.avg_pool2d,
    nn.AvgPool3d: F.avg_pool3d,
}
ADAPTIVE_POOLS: dict[type[nn.Module], Pool] = {
    nn.AdaptiveAvgPool2d: F.adaptive_avg_pool2d,
    nn.AdaptiveAvgPool3d: F.adaptive_avg_pool3d,
}


def of_max_pooling(module: Any) -> Operation | None:
    """Operation of a module."""
    return _max_pooling(module, MAX_POOLS[type(module)])


def of_average_pooling(module: Any) -> Operation:
    """Operation of a module."""
    return _average_pooling(module, AVERAGE_POOLS[type(module)])


def _max_pooling(module: Any, pool: Pool) -> Operation | None:
    if module.return_indices:
        return None

    def operation(intact: Intact, input: Changed) -> Changed:
        field = _field(module, len(input.boxes.size))
        boxes = input.boxes.through(field, intact.space)
        region = input.read(boxes.read_by(field), -inf)
        values = pool(region, field.kernel, field.stride, 0, field.dilation)
        return Changed(intact, values, boxes)

    return on_maps(operation)


def _average_pooling(module: Any, pool: Pool) -> Operation:

    def operation(intact: Intact, input: Changed) -> Changed:
        field = _field(module, len(input.boxes.size))
        boxes = input.boxes.through(field, intact.space)
        region = input.read(boxes.read_by(field))
        sums = pool(region, field.kernel, field.stride, divisor_override=1)
        # What sums are divided by differs at the border; averages of ones say by how much.
        ones = sums.new_ones((1, 1, *input.intact.space))
        options = (field.kernel, field.stride, field.padding, module.ceil_mode)
        shares = pool(ones, *options, module.count_include_pad, module.divisor_override)
        factors = (shares / pool(ones, *options, divisor_override=1)).reshape(-1)
        units = torch.from_numpy(boxes.units(intact.space)).to(factors.device)
        factors = factors[units].reshape(-1, 1, *boxes.size).repeat_interleave(input.draws, 0)
        return Changed(intact, sums * factors, boxes)

    return on_maps(operation)


def _field(module: Any, dimensions: int) -> Field:
    kernel = each(module.kernel_size, dimensions)
    stride = kernel if module.stride in (None, ()) else each(module.stride, dimensions)
    dilation = each(getattr(module, "dilation", 1), dimensions)
    return Field(kernel, stride, each(module.padding, dimensions), dilation)


def pooling_function(module: Callable[..., nn.Module], pool: Pool) -> Operation:
    """Pooling by a call of its function, whose arguments up to the fifth are the module's."""
    make = _max_pooling if module in MAX_POOLS else _average_pooling

    def operation(
        intact: Intact, input: Activations, *args: Any, **kwargs: Any
    ) -> Changed | Tensor | None:
        if len(args) > 4:
            return None
        found = make(module(*args, **kwargs), pool)
        return None if found is None else found(intact, input)

    return operation


def of_adaptive_average(module: nn.Module) -> Operation:
    """Operation of a module."""
    return adaptive_average(ADAPTIVE_POOLS[type(module)])


def adaptive_average(pool: Pool) -> Operation:
    """Averages over as many parts of a map as are asked for."""

    def operation(intact: Intact, input: Changed, *_: Any, **__: Any) -> Changed | Tensor:
        if intact.space == input.space:
            return Changed(intact, input.values, input.boxes)
        if all(length == 1 for length in intact.space):
            return _means(input).reshape(*input.shape[:2], *intact.space)
        count = len(input.space)
        readings = []
        for axis, length in enumerate(input.space):
            parts = [OTHER_AXES] * count
            parts[axis] = intact.space[axis]
            readings.append(Reading.by(partial(pool, output_size=parts), axis, length, count))
        return read_through(intact, input, readings)

    return on_maps(operation)


def mean(
    intact: Intact, input: Activations, dim: Any = None, keepdim: bool = False, **others: Any
) -> Activations | Tensor | None:
    """Means over all units of each map, or over channels."""
    if others or dim is None:
        return None
    x = arranged(input)
    reduced = positive(x, dim if isinstance(dim, tuple | list) else (dim,))
    if 0 in reduced or sorted(x.axes[axis - 1] for axis in reduced) != list(range(len(x.space))):
        return over_channels(torch.mean)(intact, input, dim, keepdim)
    shape = [
        1 if axis in reduced else size
        for axis, size in enumerate(x.values.shape)
        if keepdim or axis not in reduced
    ]
    return _means(input if isinstance(input, Changed) else input.maps).reshape(shape)


def _means(maps: Changed) -> Tensor:
    return (maps.intact.means + maps.mean_changes()).to(maps.values.dtype)


def means_in_float64(intact: Intact, activations: Changed) -> Tensor:
    """Means over the units of each map, float64 (windows * draws, channels)."""
    return activations.intact.means + activations.mean_changes()
