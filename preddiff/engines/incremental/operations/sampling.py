"""Padding, cutting and resizing of changed activations."""

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.engines.incremental.boxes import Changed, Intact
from preddiff.engines.incremental.operations.base import Operation, on_maps
from preddiff.engines.incremental.readings import OTHER_AXES, Reading, read_through

# The mode of each kind of padding.
PADDINGS: dict[type[nn.Module], str] = {
    nn.CircularPad2d: "circular", nn.CircularPad3d: "circular",
    nn.ConstantPad2d: "constant", nn.ConstantPad3d: "constant",
    nn.ReflectionPad2d: "reflect", nn.ReflectionPad3d: "reflect",
    nn.ReplicationPad2d: "replicate", nn.ReplicationPad3d: "replicate",
    nn.ZeroPad2d: "constant", nn.ZeroPad3d: "constant",
}  # fmt: skip
RESIZING = (nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d)
# As NumPy calls them.
_MODES: dict[str, Any] = {"circular": "wrap", "reflect": "reflect", "replicate": "edge"}


def of_padding(module: Any) -> Operation:
    """Operation of a module."""
    mode, value = PADDINGS[type(module)], getattr(module, "value", 0.0)

    def operation(intact: Intact, input: Changed) -> Changed | None:
        return pad(intact, input, module.padding, mode, value)

    return on_maps(operation)


def pad(
    intact: Intact, input: Changed, pad: Any, mode: str = "constant", value: float | None = None
) -> Changed | None:
    """Padding of maps, and of channels by a constant; by negative numbers maps are cut."""
    count = len(input.space)
    # From the last axis to the first, the numbers before and after.
    pairs = [(int(n), int(m)) for n, m in zip(pad[::2], pad[1::2], strict=True)][::-1]
    pairs = [(0, 0)] * (count - len(pairs)) + pairs
    channels, pairs = pairs[:-count], pairs[-count:]
    if len(channels) > 1 or (mode != "constant" and min(min(pair) for pair in pairs) < 0):
        return None
    readings = [
        Reading.of(
            np.arange(-before, length + after)
            if mode == "constant"
            else np.pad(np.arange(length), (before, after), _MODES[mode])
        )
        for length, (before, after) in zip(input.space, pairs, strict=True)
    ]
    constant = 0.0 if value is None else float(value)
    if channels:
        around = [0, 0] * count + list(channels[0])
        input = Changed(
            input.intact.made_once(
                ("channels", constant, *around), lambda maps: F.pad(maps, around, value=constant)
            ),
            F.pad(input.values, around, value=constant),
            input.boxes,
        )
    return read_through(intact, input, readings, constant)


def cut(intact: Intact, input: Changed, slices: list[slice]) -> Changed:
    """Some of the units along each axis, by slices of Python."""
    pairs = zip(input.space, slices, strict=True)
    readings = [Reading.of(np.arange(length)[part]) for length, part in pairs]
    return read_through(intact, input, readings)


def of_resizing(module: Any) -> Operation:
    """Operation of a module."""

    def operation(intact: Intact, input: Changed) -> Changed:
        return interpolate(
            intact, input, module.size, module.scale_factor, module.mode, module.align_corners,
            module.recompute_scale_factor,
        )  # fmt: skip

    return on_maps(operation)


def interpolate(
    intact: Intact,
    input: Changed,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Changed:
    """Maps in another size, by interpolation along one axis after the other."""
    count = len(input.space)
    scales = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor,) * count

    def along(axis: int, x: Tensor) -> Tensor:
        after, scale = [OTHER_AXES] * count, [1.0] * count
        after[axis] = intact.space[axis]
        if scale_factor is not None:
            scale[axis] = float(scales[axis])
        return F.interpolate(
            x,
            size=None if size is None else after,
            scale_factor=None if scale_factor is None else scale,
            mode=mode,
            align_corners=align_corners,
            recompute_scale_factor=recompute_scale_factor,
            antialias=antialias,
        )

    readings = [
        Reading.by(partial(along, axis), axis, length, count)
        for axis, length in enumerate(input.space)
    ]
    return read_through(intact, input, readings)
