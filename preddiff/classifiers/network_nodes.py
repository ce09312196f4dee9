"""Values of a network's targets, as engines and methods that take gradients need them."""

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from preddiff.classifiers.hooks import Hookable
from preddiff.classifiers.layers import (
    OUTPUT,
    FoldedWithMeans,
    WithMeans,
    copy_sharing_tensors,
    folded,
    last_maps,
    traced,
    traced_up_to,
)
from preddiff.classifiers.network import Network
from preddiff.classifiers.precision import Precision, arithmetic, keep_head_in_float32
from preddiff.classifiers.readout import Readout
from preddiff.errors import InputError


# Not in inference mode: its tensors could not be differentiated later.
@torch.no_grad()
def _use_channels_last(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Use the channels-last layout, unless the network needs the contiguous one."""
    is_of_volumes = len(shape) == 5
    try:
        network.to(memory_format=torch.channels_last_3d if is_of_volumes else torch.channels_last)
        network(torch.zeros(shape))
    except RuntimeError:
        network.to(memory_format=torch.contiguous_format)


class NetworkNodes:
    """Values of targets for variants of an item, as engines need them.

    Parameters
    ----------
    network : Network
    readout : Readout
    classes : mapping of str to sequence of int
        By item: the number of each target's class.
    device : torch.device
    precision : {"float32", "tf32", "bfloat16"}

    Attributes
    ----------
    module : nn.Module
        The network, with the layers that targets can name.
    """

    def __init__(
        self,
        network: Network,
        readout: Readout,
        classes: Mapping[str, Sequence[int]],
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        self.device = torch.device(device)
        self.readout = readout
        self.classes = classes
        self.precision = precision
        module = network.module
        if precision == "bfloat16":
            # A copy, so that the classifier itself is not changed.
            module = copy_sharing_tensors(module)
            keep_head_in_float32(module)
        module.to(self.device)
        if self.device.type == "cpu":
            # Convolutions on a CPU are faster in channels-last layout.
            _use_channels_last(module, (2, network.channels, *network.space))
        self.network: WithMeans | Hookable = WithMeans(module, readout.layers)
        self.module = module
        self._folds = False
        self._last_maps: str | None = None
        self._graphs: dict[tuple[str, ...], fx.GraphModule] = {}

    def __call__(self, x: Tensor, item: str) -> Tensor:
        """Compute float64 values (n, targets) for standardised inputs (n, channels, *space)."""
        with self.arithmetic():
            logits, means = self.network(x)
        return self.readout(logits, means, self.classes[item])

    def of_items(self, x: Tensor, items: Sequence[str]) -> Tensor:
        """Compute float64 values (n, targets) for inputs (n, channels, *space), one item each."""
        with self.arithmetic():
            logits, means = self.network(x)
        rows = [
            self.readout(
                logits[row : row + 1],
                {layer: one[row : row + 1] for layer, one in means.items()},
                self.classes[item],
            )
            for row, item in enumerate(items)
        ]
        return torch.cat(rows)

    def activations(self, layers: Sequence[str]) -> Callable[[Tensor], dict[str, Tensor]]:
        """Return a differentiable function from standardised inputs to activations of layers.

        It evaluates the network only up to the last of these layers.

        Raises
        ------
        InputError
            If there is no such layer, or torch.fx cannot trace the network.
        """
        key = tuple(layers)
        if key not in self._graphs:
            graph = traced_up_to(self.module, layers)
            self._graphs[key] = folded(graph) if self._folds else graph
        graph = self._graphs[key]

        def compute(x: Tensor) -> dict[str, Tensor]:
            with self.arithmetic():
                found: dict[str, Tensor] = graph(x)
            return found

        return compute

    def last_maps(self, x: Tensor) -> str:
        """Name the last layer with maps before pooling, for an input (channels, *space).

        Raises
        ------
        InputError
            If no layer has maps, or torch.fx cannot trace the network.
        """
        if self._last_maps is None:
            self._last_maps = last_maps(self.module, x[None])
        return self._last_maps

    def folded(self) -> "NetworkNodes":
        """Return the same nodes, with batch normalisations as parts of convolutions.

        Values differ by rounding only, and take less time. Networks that torch.fx cannot trace are
        left as they are.
        """
        copied = copy.copy(self)
        try:
            copied.network = FoldedWithMeans(self.module, self.readout.layers)
        except InputError:
            return self
        copied._folds, copied._graphs = True, {}
        return copied

    def hookable(self, layer: str | None = None) -> "NetworkNodes":
        """Return the same nodes over a copy of the network that fits hooks; see `Hookable`.

        Raises
        ------
        InputError
            If there is no such layer, or torch.fx cannot trace the network.
        """
        copied = copy.copy(self)
        copied.network = Hookable(self.module, self.readout.layers, layer)
        return copied

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the outputs of the graph that `traced` returns, by full forward passes."""
        logits, means = self.network(x)
        return {OUTPUT: logits, **means}

    def arithmetic(self) -> contextlib.AbstractContextManager[None]:
        """Run networks in the precision of these nodes."""
        return arithmetic(self.device, self.precision)

    def traced(self) -> fx.GraphModule:
        """Trace the network into a graph, whose outputs `readout` reads.

        Raises
        ------
        InputError
            If torch.fx cannot trace it.
        """
        return traced(self.module, self.network.layers)
