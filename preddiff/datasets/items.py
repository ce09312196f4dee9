"""The items of a data store, whole or cut to the part that a classifier sees."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.storage.stores import array, attributes, open_store

Slices = tuple[slice, ...]

# Attributes of arrays of whole numbers, as the CF conventions name them: xarray applies the scale.
SCALE = "scale_factor"
# Values that NumPy casts, and sums, at a time.
_PIECE = 8192


class Items:
    """The items of a data store: volumes, or images of one or more channels.

    Parameters
    ----------
    path : Path
        A store that one of the stages of preparation wrote.

    Attributes
    ----------
    names, groups : list of str
        Name and class of each item; the class is as the dataset calls it, "" if unknown.
    class_numbers : int64 array
        Number of each item's class among `classes`, -1 if unknown.
    training : bool array
        Whether classifiers, Gaussians and donors learn from the item.
    digests : list of str
        Digest of each item's values.
    classes : tuple of str
        Names of the dataset's classes; empty if it does not know them all.
    are_volumes : bool
        Whether the items are volumes, not images.
    channels : int
    space : tuple of int
    scale : float
        What stored values are multiplied with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group = open_store(path)
        self.names = [str(name) for name in self._column("item")]
        self.groups = [str(name) for name in self._column("group")]
        self.class_numbers = np.asarray(self._column("class_number"), dtype=np.int64)
        self.training = np.asarray(self._column("training"), dtype=bool)
        self.digests = [str(name) for name in self._column("digest")]
        about = attributes(self.group)
        self.classes = tuple(str(name) for name in about["classes"])
        self._affine = about.get("affine")
        self.are_volumes = self._affine is not None
        self._values = array(self.group, "intensity")
        dimensions = self._values.metadata.dimension_names or ()  # type: ignore[union-attr]
        self._has_channels = "channel" in dimensions
        self.channels = self._values.shape[1] if self._has_channels else 1
        self.space = self._values.shape[2 if self._has_channels else 1 :]
        self.scale = float(self._values.attrs.get(SCALE, 1.0))  # type: ignore[arg-type]

    def _column(self, name: str) -> NDArray[np.generic]:
        return np.asarray(array(self.group, name)[:])

    @property
    def affine(self) -> NDArray[np.float64]:
        """From voxels to millimetres (4, 4), for volumes.

        Raises
        ------
        InputError
            If the items are images.
        """
        if self._affine is None:
            raise InputError(f"{self.path} holds images, which have no place in millimetres")
        return np.array(self._affine, dtype=np.float64)

    def number(self, name: str) -> int:
        """Place of an item among all.

        Raises
        ------
        InputError
            If there is no such item.
        """
        try:
            return self._numbers[name]
        except KeyError:
            raise InputError(f"{self.path} has no item '{name}'") from None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def read(
        self, numbers: Sequence[int] | NDArray[np.integer], slab: Slices | None = None
    ) -> NDArray[np.float32]:
        """Items as an array (n, channels, *space), whole or cut to a slab."""
        stored = self.read_stored(numbers, slab).astype(np.float32, copy=False)
        return stored if self.scale == 1 else stored * np.float32(self.scale)

    def read_stored(
        self, numbers: Sequence[int] | NDArray[np.integer], slab: Slices | None = None
    ) -> NDArray[Any]:
        """Items as they are stored, to be multiplied with `scale`: images are 8-bit numbers."""
        part = slab or (slice(None),) * len(self.space)
        channels = (slice(None),) if self._has_channels else ()
        regions: list[Any] = [(int(n), *channels, *part) for n in numbers]
        values = np.stack([np.asarray(self._values[region]) for region in regions])
        return values if self._has_channels else values[:, None]

    def training_mean(self, slab: Slices | None = None) -> float:
        """Mean of all values of the training items, whole or in a slab; reads one at a time."""
        # In pieces of NumPy's buffer: to the last bit the mean that NumPy takes of all at once.
        total, count = 0.0, 0
        rest = np.empty(0)
        for number in np.flatnonzero(self.training):
            values = np.concatenate([rest, self.read_stored([int(number)], slab).reshape(-1)])
            pieces = len(values) // _PIECE
            for piece in values[: pieces * _PIECE].reshape(pieces, _PIECE):
                total += float(piece.sum(dtype=np.float64))
            rest = values[pieces * _PIECE :]
            count += pieces * _PIECE
        return (total + float(rest.sum(dtype=np.float64))) / (count + len(rest)) * self.scale

    def truth(self, number: int, slab: Slices) -> NDArray[np.bool_] | None:
        """Mask of an item's known lesions in a slab, or None if the cohort has none."""
        if "truth" not in self.group:
            return None
        region: Any = (number, *slab)
        return np.asarray(array(self.group, "truth")[region]) > 0
