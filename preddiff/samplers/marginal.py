"""The marginal sampler: windows of other items at the same location."""

import sys
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
from preddiff.samplers.base import SAMPLERS, SamplerSettings, Sources
from preddiff.samplers.draws import seed_of, window_voxels
from preddiff.windows import Block, FloatArray, IntArray, Windows

# Bytes of donors that are kept in memory: 3,500 images of 3 x 224 x 224 pixels.
DONOR_BYTES = 2**29
# Voxels of donors that are converted to float64 at a time.
_VALUES_AT_A_TIME = 2**23


@SAMPLERS.register
class MarginalSettings(SamplerSettings):
    """Takes windows of training items at the same location, of 512 MB of them at most."""

    kind: Literal["marginal"] = Field(description="marginal")

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """The training items, and the seed where it decides which of them are donors."""
        found: dict[str, Any] = {"sampler": self.kind, "training items": sources.training_digest}
        if len(_donors(sources)) < len(sources.training):
            found["seed"] = sources.seed
        return found

    def build(self, sources: Sources) -> "Marginal":
        """Make the sampler from the training items, or as many as memory is allowed for."""
        items, chosen = sources.items, _donors(sources)
        if len(chosen) < len(sources.training):
            print(
                f"marginal sampler: {len(chosen)} of {len(sources.training)} training items are "
                f"donors, chosen at random, for {DONOR_BYTES / 1e6:.0f} MB hold no more",
                file=sys.stderr,
            )
        donors = items.read_stored(chosen, sources.context)
        return Marginal(donors, [items.names[n] for n in chosen], items.scale)


def _donors(sources: Sources) -> IntArray:
    """Numbers of the items that become donors, ascending."""
    training = sources.training
    size = sources.items.read_stored(training[:1], sources.context).nbytes
    # Two at least, so that every item has another one.
    count = max(2, DONOR_BYTES // max(1, size))
    if len(training) <= count:
        return training
    generator = np.random.default_rng(seed_of(sources.seed, "donors"))
    return np.sort(generator.choice(training, count, replace=False))


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
        """Return the donors for an item: all except the item itself.

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
        # A few donors at a time, because they are converted to float64.
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
