"""Sensitivity maps: the gradient of a target with respect to the pixels (Simonyan et al. 2013)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from preddiff.methods.base import METHODS, Maps, MethodSettings, Nodes
from preddiff.targets import Target


@METHODS.register
class Sensitivity(MethodSettings):
    """The sensitivity map of Simonyan et al. 2013: magnitudes of gradients, a baseline."""

    shows_evidence: ClassVar[bool] = False
    # The score of a class before the softmax, as they take it.
    default_target: ClassVar[str] = "logit:top-1"

    method: Literal["sensitivity"] = Field(description="sensitivity")

    def maps(self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target]) -> Maps:
        """Magnitudes with respect to the classifier's inputs; of pixels they differ by std."""
        return Maps.exact(*sensitivity(partial(nodes, item=item), x))


def sensitivity(nodes: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude of the gradient of each target, the largest over channels.

    Section 3.1 of Simonyan, Vedaldi, Zisserman (2013), "Deep inside convolutional networks". They
    take the score of a class before the softmax; of a probability the gradient vanishes where the
    network is sure.

    Parameters
    ----------
    nodes : callable
        Takes inputs (n, channels, *space) to the targets' values (n, targets), differentiably.
    x : tensor (channels, *space)

    Returns
    -------
    values : tensor (targets,)
        Of the targets for the input.
    maps : tensor (targets, *space)
        Never negative.
    """
    inputs = x[None].clone().requires_grad_()
    # A copy, for a network may change its input in place.
    values = nodes(inputs.clone())[0]
    maps = [
        torch.autograd.grad(value, inputs, retain_graph=True)[0][0].abs().amax(0)
        for value in values
    ]
    return values.detach(), torch.stack(maps)
