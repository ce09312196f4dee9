"""Layers that Captum's rules for activations do not know, in terms of those that they do."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from preddiff.classifiers.hooks import Add, Means
from preddiff.errors import InputError

# Linear layers, and layers that multiply their inputs by factors which depend on them, such as
# pooling: relevance is passed on in proportion to the contributions.
_PROPORTIONAL = (
    nn.Conv1d,
    nn.Conv3d,
    nn.BatchNorm1d,
    nn.BatchNorm3d,
    nn.AvgPool1d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool3d,
    nn.Flatten,
    Add,
    Means,
)
# Activations and layers that do nothing, through which relevance is passed on unchanged.
_UNCHANGED = (
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout2d,
    nn.Dropout3d,
)


class _UpTo6(nn.Module):
    """ReLU6 of non-negative numbers, by a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute min(x, 6)."""
        return 6 - self.relu(6 - x)


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is scaled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        """Return the input."""
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Scale the gradient."""
        (factor,) = ctx.saved_tensors
        return gradients[0] * factor, None


@contextlib.contextmanager
def adapted(value: nn.Module, algorithm: Any) -> Iterator[None]:
    """Let an algorithm that replaces the gradients of activations know those of a network.

    DeepLIFT compares the output of an activation with that for the baseline, which can be done for
    one ReLU after the other; guided backpropagation clips the gradient at ReLUs. So ReLU6, which
    neither knows, becomes a ReLU and a minimum. LRP is given rules for the layers that Captum has
    none for, and for what is read from the outputs of the network.

    Parameters
    ----------
    value : nn.Module
        Value of a target, with the network as submodule `network`, whose modules are replaced in
        place.
    algorithm : type
        Class of captum.attr.

    Raises
    ------
    InputError
        If guided backpropagation finds no ReLU, but other activations.
    """
    from captum import attr

    hooks: list[RemovableHandle] = []
    if issubclass(algorithm, attr.LRP):
        network = value.get_submodule("network")
        _add_rules(network)
        hooks = [network.register_forward_hook(_times), value.register_forward_hook(_over)]
    elif issubclass(algorithm, attr.DeepLift):
        _replace_relu6(value, _UpTo6)
    else:
        _replace_relu6(value, lambda: nn.Hardtanh(0.0, 6.0))
        _require_relu(value, algorithm.__name__)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _times(network: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Start the relevance of the outputs of a network at output times gradient.

    Captum starts at the gradient, which is right only if the target is one of the outputs.
    """
    if isinstance(outputs, Tensor):
        return _Scaled.apply(outputs, outputs.detach())
    logits, means = outputs
    return _times(network, inputs, logits), {
        layer: _times(network, inputs, mean) for layer, mean in means.items()
    }


def _over(value: nn.Module, inputs: Any, outputs: Tensor) -> Any:
    """Divide the relevance by the value of the target, by which Captum multiplies it in the end."""
    found = outputs.detach()
    tiny = torch.finfo(found.dtype).tiny
    return _Scaled.apply(outputs, 1 / torch.where(found.abs() < tiny, tiny, found))


def _replace_relu6(network: nn.Module, minimum: Any) -> None:
    for name, module in list(network.named_modules()):
        if type(module) is nn.ReLU6:
            network.set_submodule(name, nn.Sequential(nn.ReLU(), minimum()))


def _require_relu(network: nn.Module, algorithm: str) -> None:
    """Refuse networks on which guided backpropagation would return plain gradients."""
    kinds = {type(module) for module in network.modules()}
    others = sorted(kind.__name__ for kind in kinds if kind.__module__ == nn.ReLU.__module__)
    if others and nn.ReLU not in kinds:
        raise InputError(
            f"{algorithm} changes gradients at ReLUs, but the network has other activations "
            f"({', '.join(others)}), so it would return gradients: use Saliency or "
            "IntegratedGradients"
        )


def _add_rules(network: nn.Module) -> None:
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    module: Any
    for module in network.modules():
        if isinstance(module, _PROPORTIONAL):
            module.rule = EpsilonRule()
        elif isinstance(module, _UNCHANGED):
            module.rule = IdentityRule()
