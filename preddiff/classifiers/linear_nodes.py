"""Differentiable values of the targets of a linear classifier, for methods that take gradients."""

import copy
from collections.abc import Callable, Sequence
from typing import cast

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
        Probabilities and logits of its classes.
    device : torch.device or str

    Attributes
    ----------
    network : nn.Module
        Takes float64 inputs (n, channels, *space) to the log-odds (n, 1) of the second class.
    """

    def __init__(
        self,
        classifier: LinearClassifier,
        targets: Sequence[Target],
        device: torch.device | str = "cpu",
    ) -> None:
        self.targets = targets
        self.classes = classifier.classes
        weights = torch.from_numpy(classifier.weights.reshape(1, -1))
        linear = nn.Linear(weights.shape[1], 1, dtype=torch.float64)
        linear.load_state_dict({"weight": weights, "bias": torch.tensor([classifier.intercept])})
        self.network = nn.Sequential(nn.Flatten(), linear).requires_grad_(False).to(device)

    def of_items(self, x: Tensor, items: Sequence[str]) -> Tensor:
        """Compute float64 values (n, targets) for inputs (n, channels, *space), of any items."""
        return self(x, "")

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
        logit = self.network(x.double())[:, 0]
        columns = []
        for target in self.targets:
            own = logit if target.label == self.classes[1] else -logit
            columns.append(torch.sigmoid(own) if target.kind == "probability" else own)
        return torch.stack(columns, 1)
