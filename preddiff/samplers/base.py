"""What samplers have in common: their protocol, settings and registry, and the seeds of draws."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from preddiff.datasets.items import Items
from preddiff.registry import Registry
from preddiff.settings.base import Name, Settings
from preddiff.storage.provenance import digest_json
from preddiff.windows import Block, IntArray, Windows, offsets


def generator(seed: int, item: str, block: Block) -> torch.Generator:
    """Source of the draws of one block of one item, on the host.

    Draws are a function of seed, item and block alone: never of batch size, shard, restart or
    device.
    """
    return torch.Generator().manual_seed(seed_of(seed, item, block.number))


def seed_of(*parts: int | str) -> int:
    """Seed for one of many sources of random numbers, from what names it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Sampler(Protocol):
    """What redraws a window."""

    @property
    def random(self) -> bool:
        """Whether draws differ: a sampler that is not random draws each window once."""
        ...

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw the windows of a block anew.

        Draws are made on the host, so that they are the same on every device.

        Parameters
        ----------
        x : float32 tensor (channels, *space)
            The intact input, on any device.
        item : str
            Name of the item.
        windows : Windows
        block : Block
        samples : int
            Number S of draws per window.
        generator : torch.Generator
            Of the host, whatever the input's device.

        Returns
        -------
        float32 tensor (windows in block, S or 1, channels * k**d)
            On the input's device; 1 where the sampler is not random.
        """
        ...


@dataclass(frozen=True)
class Sources:
    """What a sampler learns from.

    Attributes
    ----------
    items : Items
        Data store whose training items lend patches.
    slab : tuple of slice
        Part of the items that the classifier sees.
    l : int, optional
        Side of the surroundings.
    gaussian : Path, optional
        Store of the patch Gaussian.
    seed : int
        Of the study.
    """

    items: Items
    slab: tuple[slice, ...]
    l: int | None = None
    gaussian: Path | None = None
    seed: int = 0

    @property
    def training(self) -> IntArray:
        """Numbers of the training items."""
        return np.flatnonzero(self.items.training)

    @property
    def training_digest(self) -> str:
        """Digest of the values of all training items."""
        return digest_json([self.items.digests[n] for n in self.training])


class SamplerSettings(Settings):
    """What redraws a window.

    Attributes
    ----------
    needs_surroundings : bool
        Whether draws depend on the surroundings, so that `l` is needed.
    """

    needs_surroundings: ClassVar[bool] = False

    dataset: Name | None = Field(
        None,
        description="dataset that patches and donors are taken from; default: the explained one",
    )

    @property
    def gaussian(self) -> Settings | None:
        """How the patch Gaussian is fitted that it draws from, if it needs one."""
        return None

    @property
    def depends_on_location(self) -> bool:
        """Whether draws depend on the place in the items, which have to be aligned then."""
        return False

    def input_files(self) -> list[Path]:
        """The user's files that it is made from."""
        return []

    def has_exact_form(self, dimensions: int) -> bool:
        """Whether a linear classifier's expectations are known exactly under this sampler."""
        return True

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """What draws depend on, for an expectation store's provenance.

        Raises
        ------
        InputError
            If the sources do not fit the settings.
        """
        raise NotImplementedError

    def build(self, sources: Sources) -> Sampler:
        """Make the sampler.

        Raises
        ------
        InputError
            If the sources do not fit the settings.
        """
        raise NotImplementedError


SAMPLERS: Registry[type[SamplerSettings]] = Registry("preddiff.samplers")


def window_voxels(windows: Windows, block: Block, channels: int) -> IntArray:
    """Voxels of a block's windows in the flattened input (channels, *space).

    Returns
    -------
    int64 array (windows in block, channels * k**d)
    """
    first = np.ravel_multi_index(tuple(windows.first_voxels(block).T), windows.space)
    voxels: IntArray = first[:, None] + offsets(windows.k, windows.space, channels)
    return voxels
