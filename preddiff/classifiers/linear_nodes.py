"""Differentiable values of the targets of a linear classifier, for methods that take gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from preddiff.classifiers.linear import LinearClassifier
from preddiff.targets import Target


class LinearNodes:
    """Differentiable values of the targets of a linear classifier.

    Parameters
    ----------
    classifier : LinearClassifier
    targets : sequence of Target
        Probabilities and logits of its classes.
    device : torch.device or str
    """

    def __init__(
        self,
        classifier: LinearClassifier,
        targets: Sequence[Target],
        device: torch.device | str = "cpu",
    ) -> None:
        self.targets = targets
        self.classes = classifier.classes
        self.weights = torch.from_numpy(classifier.weights.reshape(-1)).to(device)
        self.intercept = classifier.intercept

    def __call__(self, x: Tensor, item: str) -> Tensor:
        """Compute float64 values (n, targets) for inputs (n, channels, *space)."""
        logit = x.double().flatten(1) @ self.weights + self.intercept
        columns = []
        for target in self.targets:
            own = logit if target.label == self.classes[1] else -logit
            columns.append(torch.sigmoid(own) if target.kind == "probability" else own)
        return torch.stack(columns, 1)
