"""The slab: the part of the volumes that a classifier sees."""

from pathlib import Path

import nibabel as nib
import numpy as np

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.settings.study import Slab
from preddiff.storage.files import write_atomically


def slab_of(items: Items, settings: Slab) -> tuple[slice, ...]:
    """Return the slab as one slice for each axis of the volumes.

    Raises
    ------
    InputError
        If the slab extends beyond the volumes.
    """
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
