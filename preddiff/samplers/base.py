"""Protocol of samplers, base class and registry of their kinds, and the seeds of draws."""

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
    """Create the random generator of one block of one item, on the host.

    Draws depend on seed, item and block only, not on batch size, shard, restart or device.
    """
    return torch.Generator().manual_seed(seed_of(seed, item, block.number))


def seed_of(*parts: int | str, bits: int = 63) -> int:
    """Derive the seed of a random generator from the names and numbers that identify it.

    Parameters
    ----------
    *parts : int or str
    bits : int
        Bits of the seed: torch takes 63, NumPy any number.
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)


class Sampler(Protocol):
    """Redraws windows."""

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
        """Draw the windows of a block.

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
            On the host, also if the input is on another device.

        Returns
        -------
        float32 tensor (windows in block, S or 1, channels * k**d)
            On the device of the input; 1 draw if the sampler is not random.
        """
        ...


@dataclass(frozen=True)
class Sources:
    """The data that a sampler is made from.

    Attributes
    ----------
    items : Items
        Data store whose training items are used.
    slab : tuple of slice
        Part of the items that the classifier sees.
    l : int, optional
        Side of the surroundings.
    gaussian : Path, optional
        Store of the patch Gaussian.
    seed : int
        Seed of the study.
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
    """A sampler, which redraws windows.

    Attributes
    ----------
    needs_surroundings : bool
        Whether draws depend on the surroundings, so that `l` is needed.
    """

    needs_surroundings: ClassVar[bool] = False

    dataset: Name | None = Field(
        None,
        description="dataset that provides patches and donors; default: the explained dataset",
    )

    @property
    def gaussian(self) -> Settings | None:
        """Settings of the patch Gaussian that it draws from; None if it needs none."""
        return None

    @property
    def depends_on_location(self) -> bool:
        """Whether draws depend on the location in the items, which then have to be aligned."""
        return False

    def input_files(self) -> list[Path]:
        """List the user's files that it depends on."""
        return []

    def has_exact_form(self, dimensions: int) -> bool:
        """Whether exact expectations of linear classifiers are available for this sampler."""
        return True

    def provenance(self, sources: Sources) -> dict[str, Any]:
        """Return what draws depend on, for the provenance of an expectation store.

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
    """Return the voxels of a block's windows, as indices into the flattened input.

    Returns
    -------
    int64 array (windows in block, channels * k**d)
    """
    first = np.ravel_multi_index(tuple(windows.first_voxels(block).T), windows.space)
    voxels: IntArray = first[:, None] + offsets(windows.k, windows.space, channels)
    return voxels
