"""Sparse reconstruction autoencoder (SRAE): the explanation network, and its place in a network.

Qi, Khorram, Li (2017), "Embedding deep networks into visual explanations", arXiv 1709.05360.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, fx, nn

from preddiff.classifiers.layers import node_of, traced_nodes
from preddiff.errors import InputError

# Name of the head among the modules of the network that it explains.
NAME = "xnn"
DROPOUT = 0.02


class Contributions(nn.Module):
    """Contributions v_cf E_f of each x-feature f to the score of each class c.

    Parameters
    ----------
    classes, features : int
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, features))

    def forward(self, features: Tensor) -> Tensor:
        """Take features (N, n) to contributions (N, classes * n): unit c * n + f is v_cf E_f."""
        return (features.unsqueeze(1) * self.weight).flatten(1)


class Scores(nn.Module):
    """Scores of the classes: the sums of their contributions, and a bias.

    Parameters
    ----------
    classes, features : int
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.shape = (classes, features)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, contributions: Tensor) -> Tensor:
        """Take contributions (N, classes * n) to scores (N, classes)."""
        return contributions.reshape(-1, *self.shape).sum(2) + self.bias


class ExplanationHead(nn.Module):
    """Takes activations Z (N, D) to x-features E (N, n), their contributions, and scores (N, K').

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, from D, through those between, to the n x-features.
    classes : int
        Number K' of classes whose scores it explains.

    Attributes
    ----------
    inputs : nn.Identity
        Its output is Z.
    encoder : nn.Sequential
        Linear layers, each followed by a ReLU; dropout after the first.
    features : nn.Identity
        Its output is E.
    contributions : Contributions
        Its output (N, K' * n) is class-major: unit c * n + f is v_cf E_f.
    scores : Scores
        Its output (N, K') is sum_f v_cf E_f + b_c.
    """

    def __init__(self, sizes: Sequence[int], classes: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.inputs = nn.Identity()
        self.encoder = _layers(self.sizes, DROPOUT)
        self.features = nn.Identity()
        self.contributions = Contributions(classes, self.sizes[-1])
        self.scores = Scores(classes, self.sizes[-1])

    def forward(self, z: Tensor) -> Tensor:
        """Take activations (N, D) to scores (N, K')."""
        features = self.features(self.encoder(self.inputs(z)))
        found: Tensor = self.scores(self.contributions(features))
        return found


def decoder_of(sizes: Sequence[int]) -> nn.Sequential:
    """Build the decoder of a head with layers of these sizes: mirrored, ReLU after each layer."""
    return _layers(tuple(reversed(sizes)), 0.0)


def linear_layers(layers: nn.Module) -> list[nn.Linear]:
    """List the linear layers of an encoder or decoder, first to last."""
    return [layer for layer in layers.children() if isinstance(layer, nn.Linear)]


def _layers(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        if number == 0 and dropout and len(sizes) > 2:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def attach(
    network: nn.Module, layer: str, head: ExplanationHead, axes: int | None = None
) -> nn.Module:
    """Attach a head to a layer of a network, whose logits stay as they are.

    The head becomes the submodule `xnn`, fed by the layer's activations: units as they are,
    feature maps by their means over units. So `layer:xnn.features`, `layer:xnn.contributions` and
    `layer:xnn.scores` name layers of the network like any other.

    Parameters
    ----------
    network : nn.Module
        In eval mode. Its tensors are shared by the result.
    layer : str
        Name as `preddiff layers` lists them.
    head : ExplanationHead
    axes : int, optional
        Number of spatial axes of the layer's activations, 0 for units. Without it, the incremental
        engine computes whole maps of this layer.

    Returns
    -------
    nn.Module
        In eval mode.

    Raises
    ------
    InputError
        If torch.fx cannot trace the network, or it has no such layer or a module `xnn` already.
    """
    if hasattr(network, NAME):
        raise InputError(f"the network has a module called '{NAME}' already: give it another name")
    graph, nodes = traced_nodes(network)
    node = node_of(layer, nodes)
    graph.add_submodule(NAME, head)
    with graph.graph.inserting_after(node):
        z = _means(graph.graph, node, head.sizes[0], axes)
    with graph.graph.inserting_after(z):
        graph.graph.call_module(NAME, (z,))
    graph.graph.lint()
    attached = fx.GraphModule(graph, graph.graph, type(network).__name__)
    for name, part in list(attached.named_children()):
        if name != NAME:
            # After the head: the last layer with weights stays the network's own.
            delattr(attached, name)
            attached.add_module(name, part)
    return attached.eval()


def _means(graph: fx.Graph, node: fx.Node, maps: int, axes: int | None) -> fx.Node:
    """Add the means of maps over their units, by operations whose tracing needs no values."""
    if axes == 0:
        return node
    if axes is not None:
        return graph.call_method("mean", (node, tuple(range(2, 2 + axes))))
    flat = graph.call_method("flatten", (node, 1))
    with graph.inserting_after(flat):
        units = graph.call_method("unflatten", (flat, 1, (maps, -1)))
    with graph.inserting_after(units):
        return graph.call_method("mean", (units, 2))
