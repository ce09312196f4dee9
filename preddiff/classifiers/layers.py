"""Layers of a network: listing them, and reading the means of their feature maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from preddiff.errors import InputError

# No layer is called so.
_OUTPUT = ":output"


@dataclass(frozen=True)
class Layer:
    """A layer that can be named as a target.

    Attributes
    ----------
    name : str
    maps : int
        Number of feature maps, or of units where it has no space left.
    space : tuple of int
        Units of a map along each spatial axis.
    """

    name: str
    maps: int
    space: tuple[int, ...]


class WithMeans(nn.Module):
    """A network that also returns the means of some layers' feature maps.

    The means are taken in the graph right after the layer, before a later operation can change its
    activations in place.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    layers : sequence of str
        Names as torchvision's `get_graph_node_names` has them, module paths, or torch.fx names.

    Raises
    ------
    InputError
        If there is no such layer, or torch.fx cannot trace the network.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        nodes = node_names(network) if layers else []
        self.layers = tuple(layers)
        self.network = (
            _with_means(network, {layer: _node(layer, nodes) for layer in layers}, nodes[-1])
            if layers
            else network
        )

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take inputs (n, channels, *space) to logits (n, K) and means (n, maps) by layer."""
        if not self.layers:
            return self.network(x), {}
        found = self.network(x)
        return found[_OUTPUT], {layer: found[layer] for layer in self.layers}


def node_names(network: nn.Module) -> list[str]:
    """Names of the nodes of a network's graph after its input, in their order, the output last.

    Raises
    ------
    InputError
        If torch.fx cannot trace the network.
    """
    # torchvision is imported where needed, for it takes seconds.
    from torchvision.models.feature_extraction import get_graph_node_names

    try:
        _, names = get_graph_node_names(network, suppress_diff_warning=True)
    except Exception as error:
        raise InputError(
            f"torch.fx cannot trace the network ({type(error).__name__}: {error}), so its hidden "
            "layers cannot be explained; probabilities and logits can"
        ) from error
    return [str(name) for name in names[1:]]


def list_layers(network: nn.Module, x: Tensor) -> list[Layer]:
    """All layers that have feature maps or units for an input (1, channels, *space)."""
    # torchvision is imported where needed, for it takes seconds.
    from torchvision.models.feature_extraction import create_feature_extractor

    names = node_names(network)
    extractor = create_feature_extractor(
        network, return_nodes={n: n for n in names}, suppress_diff_warning=True
    )
    with torch.inference_mode():
        found = extractor(x)
    return [
        Layer(name, values.shape[1], tuple(values.shape[2:]))
        for name, values in found.items()
        if isinstance(values, Tensor)
        and values.ndim in (2, 4, 5)
        and values.dtype.is_floating_point
    ]


def _node(layer: str, names: Sequence[str]) -> str:
    """Node that a layer's name means: a node, a module path, or a node's name in torch.fx."""
    if layer in names or any(name.startswith(f"{layer}.") for name in names):
        return layer
    by_fx = {name.replace(".", "_"): name for name in names}
    if layer in by_fx:
        return by_fx[layer]
    raise InputError(
        f"the network has no layer '{layer}'; `preddiff layers` lists them: "
        f"{', '.join(names[:8])}, ..."
    )


def _with_means(network: nn.Module, nodes: dict[str, str], output: str) -> nn.Module:
    # torchvision is imported where needed, for it takes seconds.
    from torchvision.models.feature_extraction import create_feature_extractor

    wanted = {node: node for node in (*nodes.values(), output)}
    extractor = create_feature_extractor(network, return_nodes=wanted, suppress_diff_warning=True)
    extractor.eval()
    graph: fx.Graph = extractor.graph
    (end,) = (node for node in graph.nodes if node.op == "output")
    found = end.args[0]
    results = {_OUTPUT: found[output]}
    for layer, node in nodes.items():
        with graph.inserting_after(found[node]):
            results[layer] = graph.call_function(spatial_means, (found[node],))
    end.args = (results,)
    graph.lint()
    return fx.GraphModule(extractor, graph).eval()


def spatial_means(activations: Tensor) -> Tensor:
    """Mean of every feature map over its units: (n, maps, *space) to float64 (n, maps).

    Raises
    ------
    InputError
        If the activations are not feature maps.
    """
    if activations.ndim == 2:
        return activations.double()
    if activations.ndim not in (4, 5):
        raise InputError(
            f"a layer's activations have shape {tuple(activations.shape)}, which are not feature "
            "maps (n, maps, height, width)"
        )
    return activations.flatten(2).mean(2, dtype=torch.float64)


# The graph calls it by name: torch.fx must not look into it.
fx.wrap("spatial_means")


def count_maps(network: nn.Module, layer: str, x: Tensor) -> int:
    """Number of a layer's feature maps, for an input (1, channels, *space).

    Raises
    ------
    InputError
        If there is no such layer, or it has no feature maps.
    """
    with torch.inference_mode():
        _, means = WithMeans(network, [layer])(x)
    return means[layer].shape[1]
