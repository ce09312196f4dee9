"""The grey sampler: a constant, which is occlusion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from preddiff.windows import Block, Windows


@dataclass(frozen=True)
class Grey:
    """Replaces a window by a constant: occlusion, for comparison.

    Attributes
    ----------
    value : float
    """

    value: float

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Fill with the constant; see `Sampler.draw`."""
        size = x.shape[0] * windows.k ** (x.ndim - 1)
        return torch.full((block.size, 1, size), self.value, device=x.device)

    def fill(self, x: Tensor, windows: Windows) -> Tensor:
        """Replace all of an input by the constant."""
        return torch.full_like(x, self.value)
