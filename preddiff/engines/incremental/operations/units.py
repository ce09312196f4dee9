"""Operations on the channels of each unit by themselves, on changed activations."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.engines.incremental.arranged import Activations, activations, arranged
from preddiff.engines.incremental.boxes import Changed, Intact
from preddiff.engines.incremental.operations.base import (
    Operation,
    has_tensors,
    of_channels,
    on_maps,
    positive,
)

# Of every number by itself.
MODULES = (
    nn.CELU, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish,
    nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU,
    nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh,
)  # fmt: skip
FUNCTIONS = (
    F.celu, F.elu, F.gelu, F.hardsigmoid, F.hardswish, F.hardtanh, F.leaky_relu, F.mish, F.relu,
    F.relu6, F.selu, F.silu, F.softplus, F.softsign,
    operator.neg, torch.abs, torch.clamp, torch.clone, torch.exp, torch.neg, torch.relu,
    torch.rsqrt, torch.sigmoid, torch.sqrt, torch.square, torch.tanh,
)  # fmt: skip
METHODS = (
    "abs", "clamp", "clone", "contiguous", "exp", "neg", "relu", "rsqrt", "sigmoid", "sqrt",
    "square", "tanh",
)  # fmt: skip
# Of the channels of each unit, with the same parameters at all units; channels come first.
MODULES_OF_MAPS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.ChannelShuffle, nn.PReLU)
FUNCTIONS_OF_MAPS = (F.channel_shuffle, F.prelu)
REDUCTIONS: dict[Any, Callable[..., Tensor]] = {
    torch.amax: torch.amax, torch.amin: torch.amin, torch.sum: torch.sum,
    "amax": torch.amax, "amin": torch.amin, "sum": torch.sum,
}  # fmt: skip
ALONG_AN_AXIS: dict[Any, Callable[..., Tensor]] = {
    F.softmax: F.softmax, torch.softmax: torch.softmax, "softmax": torch.softmax,
}  # fmt: skip


def of_each_number(function: Callable[..., Tensor]) -> Operation:
    """Operation on numbers by themselves, whatever the axes are."""

    def operation(
        intact: Intact, input: Activations, *args: Any, **kwargs: Any
    ) -> Activations | None:
        if has_tensors((*args, *kwargs.values())):
            return None
        x = arranged(input)
        return activations(intact, function(x.values, *args, **kwargs), x.boxes, x.axes)

    return operation


def of_method(name: str) -> Operation:
    """Operation of a tensor's method on numbers by themselves."""
    return of_each_number(lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs))


def of_each_unit(function: Callable[..., Tensor]) -> Operation:
    """Operation on maps whose other arguments are the same at all units."""

    def operation(intact: Intact, input: Changed, *args: Any, **kwargs: Any) -> Changed:
        return Changed(intact, function(input.values, *args, **kwargs), input.boxes)

    return on_maps(operation)


def unchanged(intact: Intact, input: Activations, *_: Any, **__: Any) -> Activations:
    """Operation that gives what it is given."""
    x = arranged(input)
    return activations(intact, x.values, x.boxes, x.axes)


def dropout(
    intact: Intact, input: Activations, p: float = 0.5, training: bool = True, **_: Any
) -> Activations | None:
    """Dropout by a call, which may happen in eval mode too."""
    return None if training else unchanged(intact, input)


def stochastic_depth(
    intact: Intact, input: Activations, p: float, mode: str, training: bool = True
) -> Activations | None:
    """Function of torchvision that leaves out branches in training, by chance."""
    return None if training and p else unchanged(intact, input)


def batch_norm(
    intact: Intact,
    input: Changed,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Changed | None:
    """Batch normalisation by a call."""
    if training:
        return None
    values = F.batch_norm(input.values, running_mean, running_var, weight, bias, eps=eps)
    return Changed(intact, values, input.boxes)


def layer_norm(
    intact: Intact,
    input: Activations,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Activations | None:
    """Layer normalisation of the channels of each unit, which are the last axes."""
    x = arranged(input)
    if not of_channels(x, range(-len(normalized_shape), 0)):
        return None
    values = F.layer_norm(x.values, tuple(normalized_shape), weight, bias, eps)
    return activations(intact, values, x.boxes, x.axes)


def of_layer_norm(module: Any) -> Operation:
    """Operation of a module."""

    def operation(intact: Intact, input: Activations) -> Activations | None:
        return layer_norm(
            intact, input, module.normalized_shape, module.weight, module.bias, module.eps
        )

    return operation


def linear(
    intact: Intact, input: Activations, weight: Tensor, bias: Tensor | None = None
) -> Activations | None:
    """Linear layer of the channels of each unit, which are the last axis."""
    x = arranged(input)
    if not of_channels(x, [-1]):
        return None
    return activations(intact, F.linear(x.values, weight, bias), x.boxes, x.axes)


def of_linear(module: Any) -> Operation:
    """Operation of a module."""

    def operation(intact: Intact, input: Activations) -> Activations | None:
        return linear(intact, input, module.weight, module.bias)

    return operation


def over_channels(function: Callable[..., Tensor]) -> Operation:
    """Operation that takes one number of several channels of each unit."""

    def operation(
        intact: Intact, input: Activations, dim: Any = None, keepdim: bool = False, **others: Any
    ) -> Activations | None:
        x = arranged(input)
        if others or dim is None:
            return None
        reduced = positive(x, dim if isinstance(dim, tuple | list) else (dim,))
        if not of_channels(x, reduced):
            return None
        axes = [axis for n, axis in enumerate(x.axes) if keepdim or n + 1 not in reduced]
        return activations(intact, function(x.values, reduced, keepdim), x.boxes, axes)

    return operation


def along_channels(function: Callable[..., Tensor]) -> Operation:
    """Operation along one axis, whose size stays, if that is one of channels."""

    def operation(intact: Intact, input: Activations, dim: Any = None, **others: Any) -> Any:
        x = arranged(input)
        if dim is None or has_tensors(others.values()) or not of_channels(x, [dim]):
            return None
        return activations(intact, function(x.values, dim, **others), x.boxes, x.axes)

    return operation
