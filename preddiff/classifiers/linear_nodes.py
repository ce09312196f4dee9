"""Differentiable values of the targets of a linear classifier, for methods that take gradients."""

import copy
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from preddiff.classifiers.layers import copy_sharing_tensors
from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.targets import Target


class LinearNodes:
    """Differentiable values of the targets of a linear classifier.

    Parameters
    ----------
    classifier : LinearClassifier
    targets : sequence of Target
        Probabilities, logits or values of its classes.
    device : torch.device or str

    Attributes
    ----------
    network : nn.Module
        Takes float64 inputs (n, channels, *space) to the outputs (n, outputs), without what the
        items' nuisance variables add to them.
    """

    def __init__(
        self,
        classifier: LinearClassifier,
        targets: Sequence[Target],
        device: torch.device | str = "cpu",
    ) -> None:
        self.targets = targets
        self.classifier = classifier
        weights = torch.from_numpy(classifier.maps.reshape(len(classifier.maps), -1))
        linear = nn.Linear(weights.shape[1], len(weights), dtype=torch.float64)
        bias = torch.from_numpy(classifier.intercepts)
        linear.load_state_dict({"weight": weights, "bias": bias})
        self.network = nn.Sequential(nn.Flatten(), linear).requires_grad_(False).to(device)

    def of_items(self, x: Tensor, items: Sequence[str]) -> Tensor:
        """Compute float64 values (n, targets) for inputs (n, channels, *space)."""
        offsets = np.stack([self.classifier.offset(item) for item in items])
        return self._values(x, torch.from_numpy(offsets).to(x.device))

    def activations(self, layers: Sequence[str]) -> Callable[[Tensor], dict[str, Tensor]]:
        """Refuse to look for layers.

        Raises
        ------
        InputError
            A linear classifier has no hidden layers.
        """
        raise InputError(
            f"layer '{', '.join(layers)}': a linear classifier has no hidden layers, so a method "
            "that needs one cannot explain it"
        )

    def last_maps(self, x: Tensor) -> str:
        """Refuse to look for layers, as `activations` does."""
        raise InputError(
            "a linear classifier has no hidden layers, so a method that needs one cannot explain it"
        )

    def folded(self) -> "LinearNodes":
        """Return the same nodes: there is nothing to fold."""
        return self

    def hookable(self, layer: str | None = None) -> "LinearNodes":
        """Return the same nodes over a copy of the network.

        Raises
        ------
        InputError
            If a layer is named, since a linear classifier has none.
        """
        if layer is not None:
            self.activations([layer])
        copied = copy.copy(self)
        copied.network = cast(nn.Sequential, copy_sharing_tensors(self.network))
        return copied

    def __call__(self, x: Tensor, item: str) -> Tensor:
        """Compute float64 values (n, targets) for inputs (n, channels, *space)."""
        return self._values(x, torch.from_numpy(self.classifier.offset(item)).to(x.device))

    def _values(self, x: Tensor, offsets: Tensor) -> Tensor:
        outputs = self.network(x.double()) + offsets
        columns = []
        for target in self.targets:
            number, sign = self.classifier.output_of(target.label)
            own = sign * outputs[:, number]
            if target.kind == "probability":
                one = outputs.shape[1] == 1
                own = torch.sigmoid(own) if one else torch.softmax(outputs, 1)[:, number]
            columns.append(own)
        return torch.stack(columns, 1)
