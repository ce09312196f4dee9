"""Operations of a network on activations that are changed in boxes only."""

import operator
from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.classifiers.layers import spatial_means
from preddiff.classifiers.precision import InFloat32
from preddiff.engines.incremental.boxes import Boxes, Changed, Field, Intact

# Takes the intact result and the operation's arguments to changed maps, to whole tensors once
# every position changes, or to None where it has to be done on whole maps. Parameters are named as
# torch names them, since a network may give its arguments by name.
Operation = Callable[..., Changed | Tensor | None]

_CONVOLUTIONS = {nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_MAX_POOLS = {nn.MaxPool2d: F.max_pool2d, nn.MaxPool3d: F.max_pool3d}
_AVERAGE_POOLS = {nn.AvgPool2d: F.avg_pool2d, nn.AvgPool3d: F.avg_pool3d}
_ADAPTIVE_POOLS = {
    nn.AdaptiveAvgPool2d: F.adaptive_avg_pool2d,
    nn.AdaptiveAvgPool3d: F.adaptive_avg_pool3d,
}

# Of every unit by itself, with the same parameters at all units of a map.
_UNITWISE_MODULES = (
    nn.BatchNorm2d, nn.BatchNorm3d, nn.CELU, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.ELU,
    nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.Mish,
    nn.PReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh,
)  # fmt: skip
_UNITWISE_FUNCTIONS = (
    F.elu, F.gelu, F.hardsigmoid, F.hardswish, F.hardtanh, F.leaky_relu, F.relu, F.relu6,
    F.sigmoid, F.silu, F.softplus, F.tanh, torch.relu, torch.sigmoid, torch.tanh,
)  # fmt: skip
_UNITWISE_METHODS = ("contiguous", "relu", "sigmoid", "tanh")
_ARITHMETIC: dict[Any, Callable[..., Tensor]] = {
    operator.add: operator.add, operator.mul: operator.mul, operator.sub: operator.sub,
    operator.truediv: operator.truediv, torch.add: torch.add, torch.mul: torch.mul,
    torch.sub: torch.sub, torch.div: torch.div,
    "add": torch.add, "mul": torch.mul, "sub": torch.sub, "div": torch.div,
}  # fmt: skip


def of_module(module: nn.Module) -> Operation | None:
    """Operation of a module in eval mode, None if it is not known."""
    kind = type(module)
    if kind in _CONVOLUTIONS:
        return _convolution(module, _CONVOLUTIONS[kind])
    if kind in _MAX_POOLS:
        return _max_pooling(module, _MAX_POOLS[kind])
    if kind in _AVERAGE_POOLS:
        return _average_pooling(module, _AVERAGE_POOLS[kind])
    if kind in _ADAPTIVE_POOLS:
        return _adaptive_average
    if kind in _UNITWISE_MODULES:
        return _unitwise(module)
    if isinstance(module, InFloat32):
        return _in_float32(of_module(module.layer))
    return None


def of_function(function: Callable[..., Any] | str) -> Operation | None:
    """Operation of a function, or of a tensor's method by its name, None if it is not known."""
    if function is spatial_means:
        return _spatial_means
    if function in (torch.cat, torch.concat):
        return _concatenation
    if function in _ARITHMETIC:
        return _arithmetic(_ARITHMETIC[function])
    if function in _UNITWISE_FUNCTIONS:
        return _unitwise(function)
    if function in _UNITWISE_METHODS:
        return _unitwise(lambda x, *a, **k: getattr(x, str(function))(*a, **k))
    if function in (torch.mean, "mean"):
        return _mean
    if function in _ADAPTIVE_POOLS.values():
        return _adaptive_average
    if function is F.dropout:
        return _dropout
    for pools, make in ((_MAX_POOLS, _max_pooling), (_AVERAGE_POOLS, _average_pooling)):
        for module, pool in pools.items():
            if function is pool:
                return _as_module(module, make, pool)
    return None


def _in_float32(operation: Operation | None) -> Operation | None:
    if operation is None:
        return None

    def in_float32(intact: Intact, input: Changed) -> Changed | Tensor | None:
        whole = Changed(Intact(input.intact.maps.float()), input.values.float(), input.boxes)
        with torch.autocast(input.values.device.type, enabled=False):
            return operation(intact, whole)

    return in_float32


def _convolution(module: Any, convolve: Callable[..., Tensor]) -> Operation | None:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    field = Field(module.kernel_size, module.stride, module.padding, module.dilation)

    def operation(intact: Intact, input: Changed) -> Changed:
        boxes = input.boxes.through(field, intact.space)
        region = input.read(boxes.read_by(field))
        values = convolve(
            region, module.weight, module.bias, module.stride, 0, module.dilation, module.groups
        )
        return Changed(intact, values, boxes)

    return operation


def _max_pooling(module: Any, pool: Callable[..., Tensor]) -> Operation | None:
    if module.return_indices:
        return None

    def operation(intact: Intact, input: Changed) -> Changed:
        field = _field(module, len(input.boxes.size))
        boxes = input.boxes.through(field, intact.space)
        region = input.read(boxes.read_by(field), -inf)
        values = pool(region, field.kernel, field.stride, 0, field.dilation)
        return Changed(intact, values, boxes)

    return operation


def _average_pooling(module: Any, pool: Callable[..., Tensor]) -> Operation:
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

    return operation


def _field(module: Any, dimensions: int) -> Field:
    kernel = _each(module.kernel_size, dimensions)
    stride = kernel if module.stride in (None, ()) else _each(module.stride, dimensions)
    dilation = _each(getattr(module, "dilation", 1), dimensions)
    return Field(kernel, stride, _each(module.padding, dimensions), dilation)


def _each(value: Any, dimensions: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (int(value),) * dimensions


def _as_module(
    module: Callable[..., nn.Module],
    make: Callable[[Any, Callable[..., Tensor]], Operation | None],
    pool: Callable[..., Tensor],
) -> Operation:
    """Pooling by a call of its function, whose arguments up to the fifth are the module's."""

    def operation(
        intact: Intact, input: Changed, *args: Any, **kwargs: Any
    ) -> Changed | Tensor | None:
        if len(args) > 4:
            return None
        found = make(module(*args, **kwargs), pool)
        return None if found is None else found(intact, input)

    return operation


def _adaptive_average(
    intact: Intact, input: Changed, *_: Any, **__: Any
) -> Changed | Tensor | None:
    if intact.space == input.intact.space:
        return Changed(intact, input.values, input.boxes)
    if all(length == 1 for length in intact.space):
        means = input.intact.means + input.mean_changes()
        return means.to(input.values.dtype).reshape(*input.shape[:2], *intact.space)
    return None


def _mean(
    intact: Intact, input: Changed, dim: Any = None, keepdim: bool = False, **others: Any
) -> Tensor | None:
    if others or not isinstance(dim, tuple | list):
        return None
    count = len(input.shape)
    if sorted(axis % count for axis in dim) != list(range(2, count)):
        return None
    means = (input.intact.means + input.mean_changes()).to(input.values.dtype)
    return means.reshape(*means.shape, *(1,) * (count - 2)) if keepdim else means


def _spatial_means(intact: Intact, activations: Changed) -> Tensor:
    return activations.intact.means + activations.mean_changes()


def _dropout(
    intact: Intact, input: Changed, p: float = 0.5, training: bool = True, **_: Any
) -> Any:
    return None if training else Changed(intact, input.values, input.boxes)


def _unitwise(function: Callable[..., Tensor]) -> Operation:
    def operation(intact: Intact, input: Changed, *args: Any, **kwargs: Any) -> Changed | None:
        others = (*args, *kwargs.values())
        if any(isinstance(other, Tensor | Changed) for other in others):
            return None
        return Changed(intact, function(input.values, *args, **kwargs), input.boxes)

    return operation


def _arithmetic(function: Callable[..., Tensor]) -> Operation:
    def operation(intact: Intact, input: Any, other: Any, **kwargs: Any) -> Changed | None:
        maps = [x for x in (input, other) if isinstance(x, Changed)]
        if any(x.intact.space != intact.space for x in maps) or any(
            isinstance(x, Tensor) for x in (input, other)
        ):
            return None
        boxes = _joint(maps)
        x, y = (z.read(boxes) if isinstance(z, Changed) else z for z in (input, other))
        return Changed(intact, function(x, y, **kwargs), boxes)

    return operation


def _concatenation(intact: Intact, tensors: Any, dim: int = 0) -> Changed | None:
    if dim != 1 or not all(isinstance(part, Changed) for part in tensors):
        return None
    boxes = _joint(tensors)
    return Changed(intact, torch.cat([part.read(boxes) for part in tensors], 1), boxes)


def _joint(maps: Any) -> Boxes:
    boxes = maps[0].boxes
    for other in maps[1:]:
        if not boxes.same_as(other.boxes):
            boxes = boxes.union(other.boxes, other.intact.space)
    return boxes
