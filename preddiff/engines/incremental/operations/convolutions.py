"""Convolutions on changed activations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.engines.incremental.boxes import Changed, Field, Intact
from preddiff.engines.incremental.operations.base import Operation, each, on_maps
from preddiff.engines.incremental.operations.sampling import pad

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


def of_convolution(module: Any) -> Operation:
    """Operation of a module."""
    convolve = convolution(CONVOLUTIONS[type(module)])
    options = (module.stride, module.padding, module.dilation, module.groups)

    def operation(intact: Intact, input: Changed) -> Changed | None:
        if module.padding_mode == "zeros":
            return convolve(intact, input, module.weight, module.bias, *options)
        padding, mode = module._reversed_padding_repeated_twice, module.padding_mode
        padded = input.intact.made_once(
            (mode, *padding), lambda maps: F.pad(maps, padding, mode=mode)
        )
        found = pad(padded, input, padding, mode)
        if found is None:
            return None
        without = (module.stride, 0, module.dilation, module.groups)
        return convolve(intact, found, module.weight, module.bias, *without)

    return on_maps(operation)


def convolution(convolve: Callable[..., Tensor]) -> Operation:
    """Operation of a function of torch."""

    def operation(
        intact: Intact,
        input: Changed,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Changed:
        kernel = tuple(weight.shape[2:])
        count = len(kernel)
        stride, dilation = each(stride, count), each(dilation, count)
        if padding == "same":
            # As torch pads: by one more at the end where the number is odd.
            before = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        else:
            before = each(0 if padding == "valid" else padding, count)
        field = Field(kernel, stride, before, dilation)
        boxes = input.boxes.through(field, intact.space)
        region = input.read(boxes.read_by(field))
        return Changed(intact, convolve(region, weight, bias, stride, 0, dilation, groups), boxes)

    return on_maps(operation)
