"""Sensitivity maps: the gradient of a target with respect to the pixels (Simonyan et al. 2013)."""

from collections.abc import Callable

import torch
from torch import Tensor


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
