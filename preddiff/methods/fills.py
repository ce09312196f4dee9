"""Inputs without information, which methods compare an item with or put in place of its voxels."""

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Fill = Literal["zero", "mean", "blur"]

# Standard deviation of the Gaussian blur, as a share of the shortest side.
_BLUR = 1 / 20


def filled(x: Tensor, fill: Fill) -> Tensor:
    """Compute an input without information.

    Parameters
    ----------
    x : tensor (channels, *space)
        A standardised item.
    fill : {"zero", "mean", "blur"}
        Zero, which is the mean of the training data where the classifier standardises its input;
        the mean of each channel of the item; or the item blurred by a Gaussian whose standard
        deviation is 1/20 of the shortest side.

    Returns
    -------
    tensor (channels, *space)
    """
    if fill == "zero":
        return torch.zeros_like(x)
    if fill == "mean":
        return x.flatten(1).mean(1).reshape(-1, *(1,) * (x.ndim - 1)).expand_as(x).clone()
    sigma = (0.0, *(min(x.shape[1:]) * _BLUR,) * (x.ndim - 1))
    blurred = ndimage.gaussian_filter(x.cpu().numpy().astype(np.float64), sigma)
    return torch.from_numpy(blurred).to(x)
