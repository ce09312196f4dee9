"""Activations of a layer over many items, and the layers without negative activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from preddiff.classifiers.layers import OUTPUT, node_of, traced_nodes
from preddiff.classifiers.network import Network
from preddiff.datasets.items import Items
from preddiff.errors import InputError

# Items that are evaluated together, and items that the layers are searched with.
_BATCH = 64
_PROBED = 64
# Layers that are listed in a message.
_LISTED = 12
# They change nothing in eval mode.
_IDLE = (nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity)


@dataclass(frozen=True)
class Activations:
    """Activations of a layer, and the logits, for some items.

    Attributes
    ----------
    layer : str
    axes : int
        Number of spatial axes of the layer; 0 if it has units, not maps.
    z : float32 array (items, D)
        Units, or means of the feature maps over their units.
    logits : float32 array (items, K)
    """

    layer: str
    axes: int
    z: NDArray[np.float32]
    logits: NDArray[np.float32]


@torch.no_grad()
def read_activations(
    network: Network,
    layer: str | None,
    items: Items,
    numbers: Sequence[int] | NDArray[np.integer],
    device: torch.device | str = "cpu",
    done: Callable[[int], object] = lambda count: None,
) -> Activations:
    """Evaluate a layer without negative activations for items.

    Parameters
    ----------
    network : Network
    layer : str, optional
        By default the last layer before the network's last weights whose activations are not
        negative for the first items, and not all 0.
    items : Items
    numbers : sequence of int
    device : torch.device
    done : callable
        Called with the number of items that were evaluated.

    Raises
    ------
    InputError
        If there is no such layer, it has neither units nor maps, or an activation is negative, NaN
        or infinite.
    """
    network.module.to(device)
    first = torch.from_numpy(items.read(numbers[:_PROBED])).to(device)
    known = rectified_layers(network.module, network.standardised(first))
    if layer is None:
        if not known:
            raise InputError(
                "the network has no layer without negative activations before its last weights: "
                "an explanation network needs activations after a ReLU"
            )
        layer = known[-1]
    evaluate = _with_activations(network.module, layer)
    found_z, found_logits, axes = [], [], 0
    for part in np.array_split(np.asarray(numbers), max(1, -(-len(numbers) // _BATCH))):
        x = network.standardised(torch.from_numpy(items.read(part)).to(device))
        found = evaluate(x)
        values = found[layer]
        _check(layer, values, known)
        axes = values.ndim - 2
        found_z.append((values.flatten(2).mean(2) if axes else values).cpu().numpy())
        found_logits.append(found[OUTPUT].cpu().numpy())
        done(len(part))
    return Activations(layer, axes, np.concatenate(found_z), np.concatenate(found_logits))


def _with_activations(network: nn.Module, layer: str) -> fx.GraphModule:
    """Return a graph that gives the logits and the values of a layer."""
    graph, nodes = traced_nodes(network)
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    end.args = ({OUTPUT: end.args[0], layer: node_of(layer, nodes)},)
    graph.recompile()
    return graph.eval()


def _check(layer: str, values: Any, known: Sequence[str]) -> None:
    hint = f"such layers are {', '.join(known[-_LISTED:]) or 'none'}"
    if not isinstance(values, Tensor) or values.ndim not in (2, 4, 5):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InputError(
            f"layer '{layer}' has activations of shape {shape}, so it has neither units nor "
            f"feature maps: an explanation network needs a layer after a ReLU; {hint}"
        )
    if not values.isfinite().all():
        raise InputError(f"layer '{layer}' has activations that are NaN or infinite")
    if (values < 0).any():
        raise InputError(
            f"layer '{layer}' has negative activations: an explanation network needs activations "
            f"after a ReLU; {hint}"
        )


class _Signs(fx.Interpreter):
    """Notes which nodes have values that are not negative, and not all 0."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.rectified: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Evaluate a node."""
        found = super().run_node(n)
        if _may_be_rectified(found) and bool((found >= 0).all()) and bool((found > 0).any()):
            self.rectified.add(n)
        return found


def _may_be_rectified(found: Any) -> bool:
    return isinstance(found, Tensor) and found.is_floating_point() and found.ndim in (2, 4, 5)


@torch.no_grad()
def rectified_layers(network: nn.Module, x: Tensor) -> list[str]:
    """List layers with units or maps, none negative and not all 0, before the last weights.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    x : tensor (n, channels, *space)
        Standardised inputs.

    Returns
    -------
    list of str
        In the order of evaluation, without layers that do nothing, such as dropout.
    """
    graph, nodes = traced_nodes(network)
    signs = _Signs(graph)
    signs.run(x)
    modules = dict(graph.named_modules())
    order = list(graph.graph.nodes)
    weighted = [
        number
        for number, node in enumerate(order)
        if node.op == "call_module" and _has_weights(modules[str(node.target)])
    ]
    before = set(order[: weighted[-1]] if weighted else order[:-1])
    return [
        name
        for name, node in nodes.items()
        if node in signs.rectified
        and node in before
        and not isinstance(modules.get(str(node.target)), _IDLE)
    ]


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())
