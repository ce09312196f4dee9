"""Precision: running networks, except for some layers, in reduced precision."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from preddiff.errors import InputError

Precision = Literal["float32", "tf32", "bfloat16"]


class InFloat32(nn.Module):
    """A layer that runs in float32 while the network runs in reduced precision."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        """Run the layer in float32."""
        with torch.autocast(input.device.type, enabled=False):
            found: Tensor = self.layer(input.float())
        return found


def keep_head_in_float32(network: nn.Module) -> None:
    """Keep the last layer with weights in float32: bfloat16 has only about three digits."""
    heads = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if heads:
        network.set_submodule(heads[-1], InFloat32(network.get_submodule(heads[-1])))


def keep_weights_in_bfloat16(network: nn.Module) -> None:
    """Convert weights once instead of in every forward pass, except those kept in float32."""
    kept = [n for n, m in network.named_modules() if isinstance(m, InFloat32)]
    for name, module in network.named_modules():
        if type(module) in (nn.Linear, nn.Conv2d, nn.Conv3d) and not any(
            name.startswith(f"{head}.") for head in kept
        ):
            for key, values in list(module.named_parameters(recurse=False)):
                # New parameters: other networks share the old ones.
                setattr(module, key, nn.Parameter(values.to(torch.bfloat16), requires_grad=False))


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Run the convolutions and matrix products of a network in a given precision.

    On a GPU this enables or disables TF32, regardless of torch's defaults, and lets cuDNN choose
    the fastest algorithms. All other options of torch stay unchanged.

    Raises
    ------
    InputError
        If the device does not have it.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InputError("precision tf32 needs a GPU; on a CPU, choose float32 or bfloat16")
    with contextlib.ExitStack() as stack:
        if precision == "bfloat16":
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        if device.type == "cuda":
            allow = precision == "tf32"
            # One by one: torch.backends.cudnn.flags resets all others, and disables cuDNN itself.
            stack.enter_context(_switched(torch.backends.cudnn, "allow_tf32", allow))
            stack.enter_context(_switched(torch.backends.cudnn, "benchmark", True))
            stack.enter_context(_switched(torch.backends.cuda.matmul, "allow_tf32", allow))
        yield


@contextlib.contextmanager
def _switched(backend: Any, name: str, value: bool) -> Iterator[None]:
    """Set one of torch's options temporarily."""
    before = getattr(backend, name)
    setattr(backend, name, value)
    try:
        yield
    finally:
        setattr(backend, name, before)
