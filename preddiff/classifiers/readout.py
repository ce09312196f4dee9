"""Reading the values of targets from the outputs of a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preddiff.targets import Target


@dataclass(frozen=True)
class Readout:
    """Reads the values of targets from the outputs of a network.

    Attributes
    ----------
    targets : tuple of Target
    """

    targets: tuple[Target, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose feature maps are read, without duplicates."""
        return tuple(dict.fromkeys(t.layer for t in self.targets if t.kind == "map"))

    def __call__(
        self, logits: Tensor, means: Mapping[str, Tensor], classes: Sequence[int]
    ) -> Tensor:
        """Read all targets.

        A feature map's value is its mean over units: the paper's relevance of a map is the average
        of its units' activation differences, which are linear in the activations. A single output
        is the log-odds of the second of two classes, unless targets are values.

        Parameters
        ----------
        logits : tensor (n, K)
            Output of the network before the softmax, or values that no softmax is applied to.
        means : mapping of str to tensor (n, maps)
            By layer: the mean of every feature map.
        classes : sequence of int, one per target
            Number of the class of each target for these inputs; not used for feature maps.

        Returns
        -------
        float64 tensor (n, targets)
        """
        logits = logits.double()
        log_odds = torch.cat([-logits, logits], 1) if logits.shape[1] == 1 else logits
        values = torch.empty(
            (len(logits), len(self.targets)), dtype=torch.float64, device=logits.device
        )
        for kind, outputs in (("probability", None), ("logit", log_odds), ("value", logits)):
            columns = [c for c, t in enumerate(self.targets) if t.kind == kind]
            if columns:
                found = probabilities(logits) if outputs is None else outputs
                values[:, columns] = found[:, [classes[c] for c in columns]]
        for layer in self.layers:
            columns = [
                c for c, t in enumerate(self.targets) if t.kind == "map" and t.layer == layer
            ]
            numbers = [self.targets[c].number for c in columns]
            values[:, columns] = means[layer][:, numbers].double()
        return values


def probabilities(logits: Tensor) -> Tensor:
    """Convert logits to probabilities of classes.

    Parameters
    ----------
    logits : tensor (n, K)
        One per class; a single one is the log-odds of the second of two classes.

    Returns
    -------
    tensor (n, K), or (n, 2) for a single logit
    """
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return torch.softmax(logits, 1)
