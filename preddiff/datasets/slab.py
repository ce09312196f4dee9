"""The slab: the part of the volumes that a classifier sees."""

from pathlib import Path
from typing import Annotated

import nibabel as nib
import numpy as np
from pydantic import Field, field_validator, model_validator

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.settings.base import Settings
from preddiff.storage.files import write_atomically


class Slab(Settings):
    """The part of the volumes that the classifier sees: consecutive slices along one axis."""

    axis: Annotated[int, Field(ge=0, le=2)] = Field(
        0, description="axis along which slices are counted"
    )
    slices: tuple[int, int] | None = Field(
        (29, 40),
        description="first and last slice, inclusive, counted from 0; null for the whole volume",
    )

    @field_validator("slices")
    @classmethod
    def _ascending(cls, slices: tuple[int, int] | None) -> tuple[int, int] | None:
        if slices is not None and not 0 <= slices[0] <= slices[1]:
            raise ValueError("give the first and the last slice, counted from 0")
        return slices

    @model_validator(mode="after")
    def _counted(self) -> "Slab":
        if self.slices is None and self.axis != 0:
            raise ValueError("axis is for slices, but the whole volume is used: remove it")
        return self


def slab_of(items: Items, settings: Slab) -> tuple[slice, ...]:
    """Return the slab as one slice for each axis of the volumes.

    Raises
    ------
    InputError
        If the slab extends beyond the volumes.
    """
    if settings.slices is None:
        return tuple(slice(0, n) for n in items.space)
    first, last = settings.slices
    length = items.space[settings.axis]
    if last >= length:
        raise InputError(
            f"slices {first} to {last} of axis {settings.axis} lie outside the volumes of "
            f"{items.path}, which have {length} slices along it (0 to {length - 1})"
        )
    slab = [slice(0, n) for n in items.space]
    slab[settings.axis] = slice(first, last + 1)
    return tuple(slab)


def on_grid(values: np.ndarray, slab: tuple[slice, ...], items: Items) -> np.ndarray:
    """Embed a slab in a float32 volume of the items' shape, which is 0 elsewhere."""
    volume = np.zeros(items.space, dtype=np.float32)
    volume[slab] = values
    return volume


def save_volume(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a volume as NIfTI."""
    with write_atomically(path) as temporary:
        nib.save(nib.Nifti1Image(values, affine), temporary)
