"""Standardisation of pixel values for a network, channel by channel."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Standardisation:
    """Subtracts a mean from each channel and divides it by a standard deviation.

    Samplers work on pixel values, so that networks with different means share draws and Gaussians.

    Attributes
    ----------
    mean, std : tuple of float
        One value per channel.
    dimensions : int
        Number of spatial axes of inputs.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dimensions: int = 2

    def image(self, x: Tensor) -> Tensor:
        """Standardise inputs (..., channels, *space)."""
        return self._along(x, (-1, *(1,) * self.dimensions))

    def patches(self, draws: Tensor) -> Tensor:
        """Standardise patches (..., channels * voxels), in C order of (channel, *patch)."""
        parts = draws.reshape(*draws.shape[:-1], len(self.mean), -1)
        return self._along(parts, (-1, 1)).reshape(draws.shape)

    def _along(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        mean = torch.tensor(self.mean, device=x.device, dtype=x.dtype).reshape(shape)
        std = torch.tensor(self.std, device=x.device, dtype=x.dtype).reshape(shape)
        return (x - mean) / std
