"""Base class and registry of the kinds of samplers, and the data that samplers are made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from preddiff.datasets.items import Items
from preddiff.registry import Registry
from preddiff.samplers.draws import Sampler
from preddiff.settings.base import Name, Settings
from preddiff.storage.provenance import digest_json
from preddiff.windows import IntArray, Windows


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
    around : tuple of slice, optional
        Part of the explained items that the sampler is given: what has windows, and what draws
        depend on; default: the slab.
    """

    items: Items
    slab: tuple[slice, ...]
    l: int | None = None
    gaussian: Path | None = None
    seed: int = 0
    around: tuple[slice, ...] | None = None

    @property
    def context(self) -> tuple[slice, ...]:
        """Part of the explained items that the sampler is given: the slab, and what is around."""
        return self.around or self.slab

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
    is_random : bool
        Whether draws of a window differ.
    """

    needs_surroundings: ClassVar[bool] = False
    is_random: ClassVar[bool] = True

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

    @property
    def sees_items(self) -> bool:
        """Whether it may be given what lies beside the classifier's input."""
        return True

    def input_files(self) -> list[Path]:
        """List the user's files that it depends on."""
        return []

    def has_exact_form(self, dimensions: int) -> bool:
        """Whether exact expectations of linear classifiers are available for this sampler."""
        return True

    def context(self, windows: Windows, l: int | None) -> tuple[slice, ...]:
        """Return the part of the items that has windows, and what draws depend on around it.

        The sampler is then given this part of an item, and the windows in it. By default, draws
        depend on nothing around the part that has windows.

        Parameters
        ----------
        windows : Windows
            Those of the items.
        l : int, optional
            Side of the surroundings.

        Raises
        ------
        InputError
            If the surroundings do not fit.
        """
        return windows.region

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
