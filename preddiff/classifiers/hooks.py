"""Networks in a form that fits the hooks of libraries: one module for each operation."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from preddiff.classifiers.layers import (
    OUTPUT,
    copy_sharing_tensors,
    spatial_means,
    traced,
    traced_with_tap,
)


class Add(nn.Module):
    """Sum of two tensors."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add tensors of the same shape."""
        return a + b


class Means(nn.Module):
    """Means of feature maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Average each map over its units; see `spatial_means`."""
        return spatial_means(x)


# Functions and methods of tensors, and the modules that do the same. The arguments after the first
# are those of the module.
_MODULES: dict[Any, type[nn.Module]] = {
    functional.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    "relu": nn.ReLU,
    functional.relu6: nn.ReLU6,
    functional.leaky_relu: nn.LeakyReLU,
    functional.elu: nn.ELU,
    functional.sigmoid: nn.Sigmoid,
    torch.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    functional.tanh: nn.Tanh,
    torch.tanh: nn.Tanh,
    "tanh": nn.Tanh,
    functional.max_pool2d: nn.MaxPool2d,
    functional.max_pool3d: nn.MaxPool3d,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.avg_pool3d: nn.AvgPool3d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d,
    spatial_means: Means,
}
_SUMS = (operator.add, torch.add, "add")


class Hookable(nn.Module):
    """A copy of a network in which hooks of modules see each operation once.

    Libraries replace the gradients of activations by hooks on their modules. They miss functions
    such as `functional.relu`, mistake modules that are used several times, and fail if activations
    are changed in place. In the copy, functions are modules, modules that are used again are
    copies, each reads a tensor of its own, and nothing is changed in place. Its weights are those
    of the network.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    layers : sequence of str
        Layers whose means are returned, as by `WithMeans`.
    tapped : str, optional
        Layer whose activations pass through the module `tap`.

    Raises
    ------
    InputError
        If there is no such layer, or torch.fx cannot trace the network.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], tapped: str | None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        if tapped is None:
            graph = traced(network, layers)
        else:
            graph = traced_with_tap(network, layers, tapped, nn.Identity())
            self.tap = graph.get_submodule("tap")
        _separate(graph)
        self.graph = graph

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take inputs (n, channels, *space) to logits (n, K) and means (n, maps) by layer."""
        found = self.graph(x)
        return found[OUTPUT], {layer: found[layer] for layer in self.layers}


def _separate(graph: fx.GraphModule) -> None:
    """Give each operation a module of its own, in place."""
    modules = dict(graph.named_modules())
    used: set[str] = set()
    for number, node in enumerate(graph.graph.nodes):
        if node.op == "call_module":
            if node.target in used:
                _use(graph, node, f"again_{number}", copy_sharing_tensors(modules[node.target]))
            used.add(node.target)
        elif node.op in ("call_function", "call_method"):
            module = _module_like(node)
            if module is not None:
                _use(graph, node, f"{node.name}_{number}", module)
    _give_own_inputs(graph)
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.eval()


def _give_own_inputs(graph: fx.GraphModule) -> None:
    """Copy the input of each operation.

    Libraries put hooks on the input and the output of a module. If several modules share a tensor,
    a hook on it changes the gradient of all of them, or comes too late for one.
    """
    for node in list(graph.graph.nodes):
        if node.op == "call_module":
            for read in node.all_input_nodes:
                with graph.graph.inserting_before(node):
                    copied = graph.graph.call_method("clone", (read,))
                node.replace_input_with(read, copied)


def _use(graph: fx.GraphModule, node: fx.Node, name: str, module: nn.Module) -> None:
    """Let a node of a graph call a module on the tensors that it reads."""
    graph.add_submodule(name, module)
    node.op, node.target = "call_module", name
    node.args, node.kwargs = tuple(node.all_input_nodes), {}


def _module_like(node: fx.Node) -> nn.Module | None:
    """Return a module that does what a node does; None if there is none."""
    if node.target in _SUMS:
        both = [one for one in node.args if isinstance(one, fx.Node)]
        return Add() if len(both) == len(node.args) == 2 and not node.kwargs else None
    kind = _MODULES.get(node.target)
    if (
        kind is None
        or len(node.all_input_nodes) != 1
        or node.args[:1] != (node.all_input_nodes[0],)
    ):
        return None
    options = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    try:
        return kind(*node.args[1:], **options)
    except TypeError:
        # An argument that the module lacks.
        return None
