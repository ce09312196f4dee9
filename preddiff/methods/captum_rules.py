"""Layers that Captum's rules for activations do not know, in terms of those that they do."""

from typing import Any

from torch import Tensor, nn

from preddiff.classifiers.hooks import Add
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


def adapt(network: nn.Module, algorithm: Any) -> None:
    """Let an algorithm that replaces the gradients of activations know those of a network.

    DeepLIFT compares the output of an activation with that for the baseline, which can be done for
    one ReLU after the other; guided backpropagation clips the gradient at ReLUs. So ReLU6, which
    neither knows, becomes a ReLU and a minimum. LRP is given rules for the layers that Captum has
    none for.

    Parameters
    ----------
    network : nn.Module
        Its modules are replaced in place.
    algorithm : type
        Class of captum.attr.

    Raises
    ------
    InputError
        If guided backpropagation finds no ReLU, but other activations.
    """
    from captum import attr

    if issubclass(algorithm, attr.LRP):
        _add_rules(network)
    elif issubclass(algorithm, attr.DeepLift):
        _replace_relu6(network, _UpTo6)
    else:
        _replace_relu6(network, lambda: nn.Hardtanh(0.0, 6.0))
        _require_relu(network, algorithm.__name__)


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
