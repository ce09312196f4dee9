"""Table of the operations of a network that are known on changed activations."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from preddiff.classifiers.layers import spatial_means
from preddiff.classifiers.precision import InFloat32
from preddiff.engines.incremental.boxes import Changed, Intact
from preddiff.engines.incremental.operations import (
    arranging,
    convolutions,
    joining,
    pooling,
    sampling,
    units,
)
from preddiff.engines.incremental.operations.base import Operation, on_maps

_MODULES: dict[type[nn.Module], Callable[[Any], Operation | None]] = {
    **dict.fromkeys(convolutions.CONVOLUTIONS, convolutions.of_convolution),
    **dict.fromkeys(pooling.MAX_POOLS, pooling.of_max_pooling),
    **dict.fromkeys(pooling.AVERAGE_POOLS, pooling.of_average_pooling),
    **dict.fromkeys(pooling.ADAPTIVE_POOLS, pooling.of_adaptive_average),
    **dict.fromkeys(sampling.PADDINGS, sampling.of_padding),
    **dict.fromkeys(sampling.RESIZING, sampling.of_resizing),
    **dict.fromkeys(units.MODULES, units.of_each_number),
    **dict.fromkeys(units.MODULES_OF_MAPS, units.of_each_unit),
    nn.LayerNorm: units.of_layer_norm,
    nn.Linear: units.of_linear,
    nn.Flatten: arranging.of_flatten,
    nn.Unflatten: arranging.of_unflatten,
}
_FUNCTIONS: dict[Any, Operation] = {
    spatial_means: on_maps(pooling.means_in_float64),
    F.conv2d: convolutions.convolution(F.conv2d), F.conv3d: convolutions.convolution(F.conv3d),
    **{
        pool: pooling.pooling_function(module, pool)
        for module, pool in {**pooling.MAX_POOLS, **pooling.AVERAGE_POOLS}.items()
    },
    **{pool: pooling.adaptive_average(pool) for pool in pooling.ADAPTIVE_POOLS.values()},
    torch.mean: pooling.mean, "mean": pooling.mean,
    F.pad: on_maps(sampling.pad),
    F.interpolate: on_maps(sampling.interpolate),
    **{function: units.of_each_number(function) for function in units.FUNCTIONS},
    **{name: units.of_method(name) for name in units.METHODS},
    **{function: units.of_each_unit(function) for function in units.FUNCTIONS_OF_MAPS},
    **{name: units.over_channels(function) for name, function in units.REDUCTIONS.items()},
    **{name: units.along_channels(function) for name, function in units.ALONG_AN_AXIS.items()},
    F.batch_norm: on_maps(units.batch_norm),
    F.dropout: units.dropout, F.dropout2d: units.dropout, F.dropout3d: units.dropout,
    F.layer_norm: units.layer_norm,
    F.linear: units.linear,
    **{name: joining.arithmetic(function) for name, function in joining.ARITHMETIC.items()},
    torch.cat: joining.concatenation, torch.concat: joining.concatenation,
    torch.chunk: joining.chunks, "chunk": joining.chunks,
    torch.split: joining.split, "split": joining.split,
    operator.getitem: joining.item,
    torch.permute: arranging.permute, "permute": arranging.permute,
    torch.transpose: arranging.transpose, "transpose": arranging.transpose,
    torch.reshape: arranging.reshape, "reshape": arranging.reshape,
    torch.flatten: arranging.flatten, "flatten": arranging.flatten,
    torch.unflatten: arranging.unflatten, "unflatten": arranging.unflatten,
    torch.unsqueeze: arranging.unsqueeze, "unsqueeze": arranging.unsqueeze,
    "size": arranging.size, getattr: arranging.attribute, "dim": arranging.number_of_axes,
}  # fmt: skip


def of_module(module: nn.Module) -> Operation | None:
    """Operation of a module in eval mode, None if it is not known."""
    if isinstance(module, InFloat32):
        return _in_float32(of_module(module.layer))
    make = _MODULES.get(type(module))
    return None if make is None else make(module)


def of_function(function: Callable[..., Any] | str) -> Operation | None:
    """Operation of a function, or of a tensor's method by its name, None if it is not known."""
    if _is_stochastic_depth(function):
        return units.stochastic_depth
    return _FUNCTIONS.get(function)


def _is_stochastic_depth(function: Any) -> bool:
    # By its name, since importing torchvision takes seconds.
    module = str(getattr(function, "__module__", ""))
    return module.startswith("torchvision.") and function.__name__ == "stochastic_depth"


def _in_float32(operation: Operation | None) -> Operation | None:
    if operation is None:
        return None

    def in_float32(intact: Intact, input: Changed) -> Any:
        full = input.intact.made_once(torch.float32, lambda maps: maps.float())
        whole = Changed(full, input.values.float(), input.boxes)
        with torch.autocast(input.values.device.type, enabled=False):
            return operation(intact, whole)

    return on_maps(in_float32)
