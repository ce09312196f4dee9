"""The grey sampler: occlusion by a constant value."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor

from preddiff.samplers.base import SAMPLERS, SamplerSettings, Sources
from preddiff.windows import Block, FloatArray, IntArray, Windows


@SAMPLERS.register
class GreySettings(SamplerSettings):
    """Fills windows with a constant value (occlusion)."""

    is_random: ClassVar[bool] = False

    kind: Literal["grey"] = Field(description="grey")
    value: float | None = Field(
        None, description="the constant value; default: the mean of the training items"
    )

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """The value, and the training items, whose mean is the default."""
        return {
            "sampler": self.kind,
            "training items": sources.training_digest,
            "value": self.value,
        }

    def build(self, sources: Sources) -> "Grey":
        """Make the sampler."""
        if self.value is not None:
            return Grey(self.value)
        return Grey(sources.items.training_mean(sources.slab))


@dataclass(frozen=True)
class Grey:
    """Fills windows with a constant value: occlusion, as a baseline.

    Attributes
    ----------
    value : float
    """

    random: ClassVar[bool] = False

    value: float

    def choices(self, item: str) -> IntArray:
        """The one value; see `HasFiniteValues`."""
        return np.zeros(1, dtype=np.int64)

    def weighted_sums(self, operator: sparse.csr_array) -> FloatArray:
        """Apply an operator to the constant; see `HasFiniteValues`."""
        return (operator @ np.full((operator.shape[1], 1), self.value)).T

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Fill windows with the value; see `Sampler.draw`."""
        size = x.shape[0] * windows.k ** (x.ndim - 1)
        return torch.full((block.size, 1, size), self.value, dtype=x.dtype, device=x.device)

    def fill(self, x: Tensor, windows: Windows) -> Tensor:
        """Replace an input by the value."""
        return torch.full_like(x, self.value)
