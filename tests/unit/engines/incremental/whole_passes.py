"""What incremental evaluation is compared with: whole forward passes, in float64."""

import copy

import numpy as np
import torch
from torch import nn

from preddiff.classifiers.layers import OUTPUT, WithMeans, traced
from preddiff.engines.incremental.boxes import Boxes
from preddiff.engines.incremental.network import IncrementalNetwork

DRAWS = 2


def randomised(network: nn.Module) -> nn.Module:
    """Parameters of normalisation that are not those of a new network, in float64."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm):
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval().double().requires_grad_(False)


@torch.inference_mode()
def require_equal(
    network: nn.Module, space: tuple[int, ...], k: int, starts: np.ndarray, layers: tuple = ()
) -> IncrementalNetwork:
    """Compare all outputs for redrawn windows with those of whole passes, in float64."""
    whole = WithMeans(copy.deepcopy(network), layers)
    ours = IncrementalNetwork(traced(network, layers))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((1, 3, *space), generator=generator, dtype=torch.float64)
    side = (k,) * len(space)
    values = torch.randn((len(starts) * DRAWS, 3, *side), generator=generator, dtype=torch.float64)
    variants = x.repeat(len(values), *[1] * (len(space) + 1))
    for row, value in enumerate(values):
        place = tuple(slice(a, a + k) for a in starts[row // DRAWS])
        variants[(row, slice(None), *place)] = value
    expected, means = whole(variants.clone())
    layout = torch.channels_last if len(space) == 2 else torch.channels_last_3d
    found = ours.outputs(
        ours.intact(x.contiguous(memory_format=layout)),
        values.contiguous(memory_format=layout),
        Boxes(starts, side),
    )
    torch.testing.assert_close(found[OUTPUT], expected, rtol=1e-9, atol=1e-10)
    for layer in layers:
        torch.testing.assert_close(found[layer], means[layer], rtol=1e-9, atol=1e-10)
    return ours


def places(space: tuple[int, ...], k: int) -> np.ndarray:
    """Corners, borders and the inside of an input."""
    last = [n - k for n in space]
    fixed = [[0] * len(space), last, [n // 2 for n in last], [0, *last[1:]], [3, *last[1:]]]
    return np.array([*fixed, [n // 3 for n in last], [n // 3 + 1 for n in last]])
