"""Rules of excitation backpropagation: how an operation passes winning probabilities on."""

import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.classifiers.layers import spatial_means


@dataclass(frozen=True)
class Rule:
    """How an operation passes winning probabilities on to its inputs.

    Attributes
    ----------
    surrogate : callable
        Called with the arguments of the operation; its Jacobian says which input excites what.
    by_activation : bool
        Whether p is shared out in proportion to activation times Jacobian. Otherwise the Jacobian,
        of zeros and ones, passes it on as it is.
    needs_positive : bool
        Whether its inputs must not be negative.
    sign : {"any", "kept", "positive"}
        What is known of the operation's output: nothing; that it is not negative if its inputs are
        not; or that it is never negative.
    fill : float, optional
        Value that replaces tensors that do not depend on the network's input.
    """

    surrogate: Callable[..., Tensor]
    by_activation: bool = False
    needs_positive: bool = False
    sign: Literal["any", "kept", "positive"] = "kept"
    fill: float | None = None


def share(output: Tensor, inputs: list[Tensor], p: Tensor, rule: Rule) -> list[Tensor]:
    """Pass winning probabilities on from the output of a surrogate to its inputs.

    Parameters
    ----------
    output : tensor
        What the rule's surrogate computed from the inputs, with its graph.
    inputs : list of tensor
        Leaves of that graph.
    p : tensor
        Winning probabilities of the output, of its shape.
    rule : Rule

    Returns
    -------
    list of tensor
        Winning probabilities of the inputs. Those of outputs that nothing excites are lost.
    """
    p = p.to(output.dtype)
    if not rule.by_activation:
        return list(torch.autograd.grad(output, inputs, p, retain_graph=True))
    excited = output.detach() > 0
    ratio = torch.where(excited, p / torch.where(excited, output.detach(), 1), 0)
    gradients = torch.autograd.grad(output, inputs, ratio, retain_graph=True)
    return [x.detach() * gradient for x, gradient in zip(inputs, gradients, strict=True)]


def _same(input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input.clone()


def _linear(module: nn.Linear, signs: Tensor | None, input: Tensor) -> Tensor:
    return F.linear(input, _excitatory(module.weight, signs))


def _convolution(module: nn.Conv2d | nn.Conv3d, signs: Tensor | None, input: Tensor) -> Tensor:
    # Unlike a functional call, this pads in the module's mode.
    return module._conv_forward(input, _excitatory(module.weight, signs), None)


def _excitatory(weight: Tensor, signs: Tensor | None) -> Tensor:
    """Return the weights (units, ...) that excite; others are 0."""
    if signs is not None:
        weight = weight * signs.reshape(-1, *(1,) * (weight.ndim - 1))
    return weight.clamp(min=0)


def _positive_weights(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def surrogate(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        return function(input, weight.clamp(min=0), None, *args, **kwargs)

    return surrogate


def _sum(input: Any, other: Any, alpha: float = 1) -> Tensor:
    """Add the positive parts of two terms: a negative term does not excite."""
    # Numbers are biases.
    terms = [
        (factor * term).clamp(min=0)
        for term, factor in ((input, 1), (other, alpha))
        if isinstance(term, Tensor)
    ]
    return terms[0] + terms[1] if len(terms) > 1 else terms[0].clone()


def _total(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return input.clamp(min=0).sum(*args, **kwargs)


def _difference(input: Tensor, other: Any, **_: Any) -> Tensor:
    return input - other if isinstance(other, Tensor) else input.clone()


def _product(input: Any, other: Any) -> Tensor:
    factors = [factor for factor in (input, other) if isinstance(factor, Tensor)]
    return factors[0] * factors[1] if len(factors) > 1 else factors[0].clone()


def _quotient(input: Tensor, other: Any, **_: Any) -> Tensor:
    return input / other if isinstance(other, Tensor) else input.clone()


def _method(name: str) -> Callable[..., Tensor]:
    return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)


def _weighted(surrogate: Callable[..., Tensor]) -> Rule:
    return Rule(surrogate, by_activation=True, needs_positive=True, sign="any")


def _average(surrogate: Callable[..., Tensor]) -> Rule:
    return Rule(surrogate, by_activation=True, needs_positive=True)


_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_RECTIFIERS = (nn.ReLU, nn.ReLU6)
_SAME_MODULES = (nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_AVERAGES = (nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_MAXIMA = (nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)

_FUNCTIONS: dict[Any, Rule] = {
    **{f: _weighted(_positive_weights(f)) for f in (F.linear, F.conv2d, F.conv3d)},
    **{f: Rule(_same, sign="positive") for f in (F.relu, F.relu6, torch.relu, "relu")},
    **{f: Rule(_same) for f in (F.dropout, "contiguous")},
    **{
        f: _average(f)
        for f in (
            F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, torch.mean,
            spatial_means,
        )
    },
    "mean": _average(_method("mean")),
    **{
        f: Rule(f)
        for f in (
            F.max_pool2d, F.max_pool3d, F.adaptive_max_pool2d, F.adaptive_max_pool3d, torch.cat,
            torch.concat, torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze,
            torch.permute, torch.transpose, operator.getitem,
        )
    },
    **{
        name: Rule(_method(name))
        for name in (
            "flatten", "reshape", "view", "squeeze", "unsqueeze", "permute", "transpose",
            "unflatten", "float", "double",
        )
    },
    **{f: Rule(_sum, by_activation=True, fill=0) for f in (operator.add, torch.add, "add")},
    **{f: Rule(_total, by_activation=True) for f in (torch.sum, "sum")},
    **{f: Rule(_difference, sign="any", fill=0) for f in (operator.sub, torch.sub, "sub")},
    **{f: Rule(_product, sign="any", fill=1) for f in (operator.mul, torch.mul, "mul")},
    **{f: Rule(_quotient, sign="any", fill=1) for f in (operator.truediv, torch.div, "div")},
}  # fmt: skip


def rule_of(
    node: fx.Node, modules: Mapping[str, nn.Module], dependent: Collection[fx.Node]
) -> Rule | None:
    """Return the rule of a node's operation; None if there is none.

    Weighted layers share p by activation and positive weight, averages by activation, and sums by
    the positive part of their terms. Max pooling routes p to the largest unit. Rectifiers, dropout
    and batch normalisation pass it on, as do products with constants. Batch normalisation right
    after a weighted layer counts as part of it: where its scale is negative, negative weights
    excite.

    Parameters
    ----------
    node : fx.Node
        In the graph of a network in eval mode.
    modules : mapping of str to nn.Module
        Modules of that network, by name.
    dependent : collection of fx.Node
        Nodes that depend on the network's input.
    """
    if node.op == "call_module":
        return _rule_of_module(modules[str(node.target)], _signs_after(node, modules))
    if node.op not in ("call_function", "call_method"):
        return None
    rule = _FUNCTIONS.get(node.target)
    if rule is None or node.kwargs.get("return_indices"):
        return None
    varying = [one for one in node.all_input_nodes if one in dependent]
    if rule.surrogate is _product:
        return rule if len(varying) == 1 else None
    if rule.surrogate in (_difference, _quotient):
        return rule if varying == [node.args[0]] else None
    return rule


def _signs_after(node: fx.Node, modules: Mapping[str, nn.Module]) -> Tensor | None:
    """Return the signs of the scales of batch normalisation after a layer, if there is any."""
    after = [modules.get(str(user.target)) for user in node.users]
    if len(after) == 1 and isinstance(after[0], _NORMALISATIONS):
        return None if after[0].weight is None else after[0].weight.sign()
    return None


def _rule_of_module(module: nn.Module, signs: Tensor | None) -> Rule | None:
    if isinstance(module, nn.Linear):
        return _weighted(partial(_linear, module, signs))
    if isinstance(module, _CONVOLUTIONS):
        return _weighted(partial(_convolution, module, signs))
    if isinstance(module, _NORMALISATIONS):
        return Rule(_same, sign="any")
    if isinstance(module, nn.Hardtanh):
        return Rule(_same, sign="positive" if module.min_val >= 0 else "any")
    if isinstance(module, _RECTIFIERS):
        return Rule(_same, sign="positive")
    if isinstance(module, _SAME_MODULES):
        return Rule(_same)
    if isinstance(module, _AVERAGES):
        return _average(module)
    if isinstance(module, _MAXIMA) and not module.return_indices:
        return Rule(module)
    return Rule(module) if isinstance(module, nn.Flatten) else None
