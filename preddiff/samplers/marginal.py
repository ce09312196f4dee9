"""The marginal sampler: windows of other items at the same location."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from torch import Tensor

from preddiff.errors import InputError
from preddiff.samplers.base import SAMPLERS, SamplerSettings, Sources, window_voxels
from preddiff.windows import Block, FloatArray, IntArray, Windows

# Voxels of donors that are converted to float64 at a time.
_VALUES_AT_A_TIME = 2**23


@SAMPLERS.register
class MarginalSettings(SamplerSettings):
    """Takes windows of other items at the same location."""

    kind: Literal["marginal"] = Field(description="marginal")

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """Digest of the training items."""
        return {"sampler": self.kind, "training items": sources.training_digest}

    def build(self, sources: Sources) -> "Marginal":
        """Make the sampler from the training items."""
        items, training = sources.items, sources.training
        donors = items.read_stored(training, sources.slab)
        return Marginal(donors, [items.names[n] for n in training], items.scale)


@dataclass(frozen=True)
class Marginal:
    """Replaces windows by those of other items at the same location.

    Attributes
    ----------
    donors : array (n, channels, *space)
        Values, in units of `scale`.
    names : sequence of str
        Names of the donors; an item is never its own donor.
    scale : float
        Factor that donors are multiplied by; images are kept as 8-bit integers.
    """

    random: ClassVar[bool] = True

    donors: NDArray[Any]
    names: Sequence[str]
    scale: float = 1.0

    def choices(self, item: str) -> IntArray:
        """Donors that may lend to an item: all but the item itself.

        Raises
        ------
        InputError
            If there are none.
        """
        chosen = np.flatnonzero(np.asarray(self.names) != item)
        if not len(chosen):
            raise InputError(f"item '{item}': the marginal sampler needs at least one other item")
        return chosen

    def weighted_sums(self, operator: sparse.csr_array) -> FloatArray:
        """Apply an operator to every donor; see `HasFiniteValues`."""
        flat = self.donors.reshape(len(self.donors), -1)
        sums = np.empty((operator.shape[0], len(flat)))
        # A few donors at a time, since the operator takes float64.
        step = max(1, _VALUES_AT_A_TIME // flat.shape[1])
        for start in range(0, len(flat), step):
            part = slice(start, start + step)
            sums[:, part] = operator @ flat[part].T.astype(np.float64)
        return sums.T if self.scale == 1 else sums.T * self.scale

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw donors at random, independently for each window; see `Sampler.draw`."""
        others = torch.from_numpy(self.choices(item))
        chosen = others[torch.randint(len(others), (block.size, samples), generator=generator)]
        voxels = torch.from_numpy(window_voxels(windows, block, len(x)))
        donors = torch.from_numpy(self.donors).reshape(len(self.donors), -1)
        values = donors[chosen[..., None], voxels[:, None, :]].to(x.device).float()
        return values if self.scale == 1 else values * self.scale
