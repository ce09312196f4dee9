"""Classifiers as the Python interface is given them: any torch module, or any function."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from preddiff.classifiers.network import Network
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import Precision, arithmetic
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.targets import Kind, Target

Output = Literal["logits", "probabilities", "activations"]
Classifier = torch.nn.Module | Callable[[NDArray[np.float32]], ArrayLike]


class GivenNodes:
    """The targets' values for a batch of inputs, from any classifier.

    Parameters
    ----------
    classifier : torch module or callable
        Takes inputs (n, channels, *space) to one row of numbers for each.
    targets : sequence of int
        Columns that are explained.
    output : {"logits", "probabilities", "activations"}
        What the columns are; of logits the softmax is taken.
    """

    def __init__(self, classifier: Classifier, targets: Sequence[int], output: Output) -> None:
        self.classifier = classifier
        self.targets = list(targets)
        self.output = output

    def __call__(self, x: Tensor, item: str) -> Tensor:
        """Compute float64 values (n, targets) for inputs (n, channels, *space)."""
        values = self._rows(x)
        if self.output == "logits":
            values = torch.softmax(values, 1)
        return values[:, self.targets]

    @property
    def device(self) -> torch.device:
        """Where a module's parameters lie; functions take arrays of the host."""
        if isinstance(self.classifier, torch.nn.Module):
            return next((p.device for p in self.classifier.parameters()), torch.device("cpu"))
        return torch.device("cpu")

    def count(self, x: NDArray[np.float32]) -> int:
        """Number of columns; checks the output of one input."""
        # A copy, for a classifier may change its input in place.
        columns = self._rows(torch.from_numpy(x[None].copy()).to(self.device)).shape[1]
        require_targets(self.targets, columns)
        return columns

    def _rows(self, x: Tensor) -> Tensor:
        if isinstance(self.classifier, torch.nn.Module):
            if self.classifier.training:
                raise InputError("the network is in training mode: call its eval() first")
            with torch.inference_mode(), arithmetic(x.device, "float32"):
                values = self.classifier(x)
            if not isinstance(values, Tensor):
                raise InputError(
                    f"the network returns a {type(values).__name__}: wrap it so that it returns "
                    "one tensor"
                )
            found = values.double()
        else:
            found = torch.from_numpy(np.asarray(self.classifier(x.numpy()), dtype=np.float64))
        if found.ndim != 2 or len(found) != len(x):
            raise InputError(
                f"the classifier took {len(x)} inputs to an output of shape "
                f"{tuple(found.shape)}: it must give one row of numbers for each input"
            )
        return found


def network_nodes(
    module: torch.nn.Module,
    nodes: GivenNodes,
    space: tuple[int, ...],
    channels: int,
    classes: int,
    precision: Precision,
    item: str,
) -> NetworkNodes:
    """Return the same nodes of a module whose layers are looked into.

    Parameters
    ----------
    module : nn.Module
        It is copied.
    nodes : GivenNodes
    space : tuple of int
        Spatial shape of the input.
    channels, classes : int
        Of the input, and columns of the output.
    precision : {"float32", "tf32", "bfloat16"}
    item : str
        Name of the input.
    """
    names = tuple(str(number) for number in range(classes))
    plain = Standardisation((0.0,) * channels, (1.0,) * channels, len(space))
    # A copy, for its layout in memory is changed.
    network = Network(copy.deepcopy(module), {}, names, 1, space, plain)
    kind: Kind = "probability" if nodes.output == "logits" else "value"
    readout = Readout(tuple(Target(kind, str(target)) for target in nodes.targets))
    return NetworkNodes(network, readout, {item: nodes.targets}, nodes.device, precision)


def require_targets(targets: Sequence[int], count: int) -> None:
    """Check that a classifier puts out the columns that are explained.

    Raises
    ------
    InputError
    """
    for target in targets:
        if not 0 <= target < count:
            raise InputError(f"target {target}: the classifier puts out {count} numbers")
