"""Parts of inputs that features come from, for features of a network and linear ones alike."""

import torch
from torch import Tensor, nn

from preddiff.classifiers.excitation import Excitation, shares
from preddiff.errors import InputError


def mass_over_parts(
    network: nn.Module,
    x: Tensor,
    layer: str,
    weights: Tensor | None = None,
    stop: str | None = None,
) -> Tensor:
    """Compute how much of each feature comes from each part of the inputs.

    The parts are the units of the feature maps of the layer at which excitation backpropagation
    stops, for example 7 x 7. Features are the units of a layer, such as the x-features of an
    explanation network, or linear in the units of a layer, h = W Z, such as components by NMF or
    PCA. The winning probability of such a component is first shared among the units Z in
    proportion to w+_k Z_k, which is the rule of a linear layer; so both kinds are treated alike.
    Give both the same `stop`: by default, it depends on `layer` only by the layers before it.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    x : tensor (items, channels, *space)
        Standardised inputs on the network's device. The activations of all of them are in memory.
    layer : str
        Layer whose units are the features, or that linear features are computed from.
    weights : tensor (features, units), optional
        Weights W of linear features.
    stop : str, optional
        Layer at which backpropagation stops, as in `Excitation`.

    Returns
    -------
    tensor (items, features, parts)
        Not negative; sums to 1 over the parts, or is 0 where nothing excites a feature.

    Raises
    ------
    InputError
        As `Excitation` does, or if linear features have negative inputs, or do not fit the layer.
    """
    run = Excitation(network, x, layer, stop)
    count = run.units.shape[1]
    if weights is None:
        starts = torch.eye(count).to(run.units).expand(len(x), -1, -1)
    else:
        if weights.shape[1:] != (count,):
            raise InputError(
                f"weights of shape {tuple(weights.shape)} do not fit layer '{layer}', which has "
                f"{count} units"
            )
        if bool((run.units < 0).any()):
            raise InputError(
                f"layer '{layer}' has negative activations, so excitation backpropagation cannot "
                "pass through linear features of it"
            )
        starts = weights.to(run.units).clamp(min=0) * run.units[:, None]
    found = [shares(run(shares(start))).flatten(1) for start in starts.unbind(1)]
    return torch.stack(found, 1)
