"""Sensitivity maps: gradients of targets with respect to the input (Simonyan et al. 2013)."""

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
    """The sensitivity map of Simonyan et al. (2013): magnitudes of gradients, as a baseline."""

    shows_evidence: ClassVar[bool] = False
    # The score of a class before the softmax, as in their paper.
    default_target: ClassVar[str] = "logit:top-1"

    method: Literal["sensitivity"] = Field(description="sensitivity")

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Compute magnitudes of gradients with respect to the standardised input."""
        return Maps.exact(*sensitivity(partial(nodes, item=item), x))


def sensitivity(nodes: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the magnitude of the gradient of each target, and its maximum over channels.

    Section 3.1 of Simonyan, Vedaldi, Zisserman (2013), "Deep inside convolutional networks". They
    use the score of a class before the softmax; the gradient of a probability vanishes if it is
    close to 0 or 1.

    Parameters
    ----------
    nodes : callable
        Differentiable function from inputs (n, channels, *space) to values (n, targets).
    x : tensor (channels, *space)

    Returns
    -------
    values : tensor (targets,)
        Values of the targets for the input.
    maps : tensor (targets, *space)
        Non-negative.
    """
    inputs = x[None].clone().requires_grad_()
    # A copy, because a network may change its input in place.
    values = nodes(inputs.clone())[0]
    maps = [
        torch.autograd.grad(value, inputs, retain_graph=True)[0][0].abs().amax(0)
        for value in values
    ]
    return values.detach(), torch.stack(maps)
