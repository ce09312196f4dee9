"""Layers of networks: tracing, listing, and reading the means of feature maps."""

import copy
import operator
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn.utils.fusion import fuse_conv_bn_eval

from preddiff.classifiers.precision import InFloat32
from preddiff.errors import InputError

# Key of the logits among the outputs of a traced network; not a valid name of a layer.
OUTPUT = ":output"

_IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, operator.isub: operator.sub}

# Names of operations that only pool maps or pass them on.
_PASSING = re.compile("pool|dropout|identity", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """A layer that can be named as a target.

    Attributes
    ----------
    name : str
    maps : int
        Number of feature maps, or of units if the layer has no spatial axes.
    space : tuple of int
        Units of a map along each spatial axis.
    """

    name: str
    maps: int
    space: tuple[int, ...]


class WithMeans(nn.Module):
    """A network that also returns the means of some layers' feature maps.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    layers : sequence of str
        Names as `list_layers` has them, module paths, or names of torch.fx.

    Raises
    ------
    InputError
        If there is no such layer, or torch.fx cannot trace the network.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.network = traced(network, layers) if layers else network

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take inputs (n, channels, *space) to logits (n, K) and means (n, maps) by layer."""
        if not self.layers:
            return self.network(x), {}
        found = self.network(x)
        return found[OUTPUT], {layer: found[layer] for layer in self.layers}


class FoldedWithMeans(WithMeans):
    """`WithMeans` of a network whose batch normalisations are part of the convolutions before them.

    Outputs differ by rounding only. Passes, forwards and backwards, take about a quarter less time.

    Raises
    ------
    InputError
        As for `WithMeans`, and if torch.fx cannot trace the network.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        nn.Module.__init__(self)
        self.layers = tuple(layers)
        self.network = folded(traced(network, layers))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take inputs (n, channels, *space) to logits (n, K) and means (n, maps) by layer."""
        found = self.network(x)
        return found[OUTPUT], {layer: found[layer] for layer in self.layers}


def folded(graph: fx.GraphModule) -> fx.GraphModule:
    """Replace convolutions that only batch normalisations read by convolutions that do both.

    The graph is changed; modules that it shares with the network are not.
    """
    modules = dict(graph.named_modules())
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    for node in graph.graph.nodes:
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if node.op != "call_module" or source is None or source.op != "call_module":
            continue
        norm, convolution = modules[str(node.target)], modules[str(source.target)]
        if (
            isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
            and norm.running_mean is not None
            and isinstance(convolution, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            and len(source.users) == calls[str(source.target)] == 1
        ):
            parent, _, name = str(source.target).rpartition(".")
            setattr(graph.get_submodule(parent), name, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def traced(network: nn.Module, layers: Sequence[str] = ()) -> fx.GraphModule:
    """Trace a network into a graph that returns its logits (`OUTPUT`) and the means of layers.

    In-place operations are replaced, so that the value of each node stays the output of its layer.
    The graph shares its weights with the network.

    Raises
    ------
    InputError
        If there is no such layer, or torch.fx cannot trace the network.
    """
    graph, nodes = traced_nodes(network)
    results = {OUTPUT: _end(graph).args[0]}
    for layer in layers:
        node = node_of(layer, nodes)
        with graph.graph.inserting_after(node):
            results[layer] = graph.graph.call_function(spatial_means, (node,))
    return _returning(graph, results)


def traced_up_to(network: nn.Module, layers: Sequence[str]) -> fx.GraphModule:
    """Trace a network into a graph that returns the activations of layers, and ends there.

    Parameters
    ----------
    network : nn.Module
        In eval mode; the graph shares its weights.
    layers : sequence of str
        Names as in `WithMeans`.

    Returns
    -------
    fx.GraphModule
        From inputs (n, channels, *space) to a dict of activations by layer. Operations that none
        of them depends on are left out.

    Raises
    ------
    InputError
        If there is no such layer, or torch.fx cannot trace the network.
    """
    graph, nodes = traced_nodes(network)
    return _returning(graph, {layer: node_of(layer, nodes) for layer in layers})


def traced_with_tap(
    network: nn.Module, layers: Sequence[str], tapped: str, tap: nn.Module
) -> fx.GraphModule:
    """Trace a network as `traced` does, and pass the activations of a layer through a module.

    Parameters
    ----------
    network : nn.Module
    layers : sequence of str
        Layers whose means are returned.
    tapped : str
        Name of the layer.
    tap : nn.Module
        Module that returns its input; it becomes the submodule `tap`.

    Raises
    ------
    InputError
        If there is no such layer, or torch.fx cannot trace the network.
    """
    graph, nodes = traced_nodes(network)
    node = node_of(tapped, nodes)
    graph.add_submodule("tap", tap)
    with graph.graph.inserting_after(node):
        passed = graph.graph.call_module("tap", (node,))
    node.replace_all_uses_with(passed, lambda user: user is not passed)
    results = {OUTPUT: _end(graph).args[0]}
    for layer in layers:
        read = node_of(layer, nodes)
        read = passed if read is node else read
        with graph.graph.inserting_after(read):
            results[layer] = graph.graph.call_function(spatial_means, (read,))
    return _returning(graph, results)


def last_maps(network: nn.Module, x: Tensor) -> str:
    """Name the last layer whose maps have several units, without the pooling layers after it.

    Parameters
    ----------
    network : nn.Module
    x : tensor (1, channels, *space)

    Raises
    ------
    InputError
        If no layer has maps, or torch.fx cannot trace the network.
    """
    graph, nodes = traced_nodes(network)
    with torch.inference_mode():
        ShapeProp(graph).propagate(x)
    modules = dict(graph.named_modules())
    for name, node in reversed(nodes.items()):
        about = node.meta.get("tensor_meta")
        operation = modules.get(str(node.target), node.target)
        if (
            isinstance(about, TensorMetadata)
            and len(about.shape) == x.ndim
            and min(about.shape[2:]) > 1
            and not _PASSING.search(str(getattr(operation, "__name__", type(operation).__name__)))
        ):
            return name
    raise InputError("the network has no layer with feature maps, which this method needs")


def _end(graph: fx.GraphModule) -> fx.Node:
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    return end


def _returning(graph: fx.GraphModule, results: dict[str, Any]) -> fx.GraphModule:
    """Let a graph return a dict of values of its nodes, and drop what these do not need."""
    _end(graph).args = (results,)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return graph.eval()


def list_layers(network: nn.Module, x: Tensor) -> list[Layer]:
    """List the layers with feature maps or units, for an input (1, channels, *space)."""
    graph, nodes = traced_nodes(network)
    with torch.inference_mode():
        ShapeProp(graph).propagate(x)
    return [
        Layer(name, about.shape[1], tuple(about.shape[2:]))
        for name, node in nodes.items()
        if isinstance(about := node.meta.get("tensor_meta"), TensorMetadata)
        and len(about.shape) in (2, 4, 5)
        and about.dtype.is_floating_point
    ]


def copy_sharing_tensors(network: nn.Module) -> nn.Module:
    """Copy a network's modules, but not their tensors."""
    # Hooks store tensors as plain attributes, such as the `weight` of weight_norm.
    others = [x for part in network.modules() for x in vars(part).values() if isinstance(x, Tensor)]
    tensors = (*network.parameters(), *network.buffers(), *others)
    copied: nn.Module = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    return copied


def traced_nodes(network: nn.Module) -> tuple[fx.GraphModule, dict[str, fx.Node]]:
    """Trace a network without operations in place; return the graph, and its nodes by name.

    Raises
    ------
    InputError
        If torch.fx cannot trace it.
    """
    # Importing torchvision takes seconds.
    from torchvision.models.feature_extraction import NodePathTracer

    tracer = NodePathTracer(leaf_modules=[InFloat32])
    copied = copy_sharing_tensors(network).eval()
    try:
        graph = fx.GraphModule(copied, tracer.trace(copied))
    except Exception as error:
        raise InputError(
            f"torch.fx cannot trace the network ({type(error).__name__}: {error}), so its hidden "
            "layers cannot be explained; probabilities and logits can"
        ) from error
    _replace_operations_in_place(graph)
    names = {
        name: node
        for node, name in tracer.node_to_qualname.items()
        if node.op not in ("placeholder", "get_attr")
    }
    return graph, names


def _replace_operations_in_place(graph: fx.GraphModule) -> None:
    """Replace operations that change their inputs, and let later nodes read the results."""
    modules = dict(graph.named_modules())
    order = {node: number for number, node in enumerate(graph.graph.nodes)}
    for node in order:
        if node.op == "call_module" and getattr(modules[str(node.target)], "inplace", False):
            modules[str(node.target)].inplace = False
        elif node.op == "call_function" and node.target in _IN_PLACE:
            node.target = _IN_PLACE[node.target]
        elif node.op == "call_function" and node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_method" and _is_in_place(str(node.target)):
            node.target = str(node.target)[:-1]
        elif node.op == "call_method" and node.target == "view":
            # Maps may be in channels-last layout, which `view` cannot flatten.
            if not any(isinstance(arg, torch.dtype) for arg in node.args):
                node.target = "reshape"
            continue
        else:
            continue
        changed = node.all_input_nodes[0]
        for user in list(changed.users):
            if order[user] > order[node]:
                user.replace_input_with(changed, node)
    graph.recompile()


def _is_in_place(method: str) -> bool:
    return method.endswith("_") and not method.endswith("__") and hasattr(Tensor, method[:-1])


def node_of(layer: str, nodes: Mapping[str, fx.Node]) -> fx.Node:
    """Find the node of a layer among those of `traced_nodes`; names as in `WithMeans`.

    Raises
    ------
    InputError
        If there is no such layer.
    """
    if layer in nodes:
        return nodes[layer]
    inside = [node for name, node in nodes.items() if name.startswith(f"{layer}.")]
    if inside:
        return inside[-1]
    by_fx = {str(node): node for node in nodes.values()}
    if layer in by_fx:
        return by_fx[layer]
    raise InputError(
        f"the network has no layer '{layer}'; `preddiff layers` lists them: "
        f"{', '.join(list(nodes)[:8])}, ..."
    )


def spatial_means(activations: Tensor) -> Tensor:
    """Average each feature map over its units: (n, maps, *space) to float64 (n, maps).

    Raises
    ------
    InputError
        If the activations are not feature maps.
    """
    if activations.ndim == 2:
        return activations.double()
    if activations.ndim not in (4, 5):
        raise InputError(
            f"the activations of a layer have shape {tuple(activations.shape)}, so they are not "
            "feature maps (n, maps, height, width): choose another layer (`preddiff layers`)"
        )
    return activations.flatten(2).mean(2, dtype=torch.float64)


def count_maps(network: nn.Module, layer: str, x: Tensor) -> int:
    """Count the feature maps of a layer, for an input (1, channels, *space).

    Raises
    ------
    InputError
        If there is no such layer, or it has no feature maps.
    """
    with torch.inference_mode():
        _, means = WithMeans(network, [layer])(x)
    return means[layer].shape[1]
