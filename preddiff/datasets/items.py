"""The items of a data store, in full or cut to the slab that a classifier sees."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.storage.stores import array, attributes, open_store

Slices = tuple[slice, ...]

# Attribute of integer arrays, from the CF conventions: xarray applies the scale on reading.
SCALE = "scale_factor"
# Number of values that NumPy converts to float64, and sums, at a time.
_PIECE = 8192


class Items:
    """The items of a data store: volumes, or images of one or more channels.

    Parameters
    ----------
    path : Path
        A store that a `prepare` stage wrote.

    Attributes
    ----------
    names, groups : list of str
        Name and class of each item. The class is the dataset's label, "" if unknown.
    class_numbers : int64 array (items,)
        Index of each item's class in `classes`, -1 if unknown.
    training : bool array (items,)
        Whether classifiers and samplers are fitted to the item.
    digests : list of str
        Digest of each item's values.
    classes : tuple of str
        Names of the dataset's classes; empty if not all of them are known.
    value_name : str or None
        Name of the number of each item that regressions predict; None if there is none.
    nuisance_names : tuple of str
        Names of the nuisance variables; of text, of the indicators of its values.
    nuisance_levels : dict of str to tuple of str
        By name of each nuisance variable that is text: all of its values.
    are_volumes : bool
        Whether the items are volumes rather than images.
    channels : int
    space : tuple of int
    scale : float
        Factor by which stored values are multiplied.
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
        self.value_name: str | None = about.get("value_name")
        has_nuisance = "nuisance_variable" in self.group
        found = self._column("nuisance_variable") if has_nuisance else ()
        self.nuisance_names = tuple(str(name) for name in found)
        levels: dict[str, list[str]] = about.get("nuisance_levels", {})
        self.nuisance_levels = {name: tuple(found) for name, found in levels.items()}
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
    def values(self) -> NDArray[np.float64]:
        """Number of each item that regressions predict (items,); NaN if there is none."""
        if self.value_name is None:
            return np.full(len(self.names), np.nan)
        return np.asarray(self._column("value"), dtype=np.float64)

    @property
    def nuisance(self) -> NDArray[np.float64]:
        """Nuisance variables of each item (items, nuisance_names), text as indicators."""
        if not self.nuisance_names:
            return np.empty((len(self.names), 0))
        return np.asarray(self._column("nuisance"), dtype=np.float64)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Affine matrix (4, 4) of volumes, from voxels to millimetres.

        Raises
        ------
        InputError
            If the items are images.
        """
        if self._affine is None:
            raise InputError(f"{self.path} contains images, which have no affine")
        return np.array(self._affine, dtype=np.float64)

    def number(self, name: str) -> int:
        """Return the index of an item.

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
        """Read items as a float32 array (n, channels, *space), in full or cut to a slab."""
        stored = self.read_stored(numbers, slab).astype(np.float32, copy=False)
        return stored if self.scale == 1 else stored * np.float32(self.scale)

    def read_stored(
        self, numbers: Sequence[int] | NDArray[np.integer], slab: Slices | None = None
    ) -> NDArray[Any]:
        """Read items as they are stored, without applying `scale`; images are 8-bit integers."""
        part = slab or (slice(None),) * len(self.space)
        channels = (slice(None),) if self._has_channels else ()
        lengths = [len(range(*along.indices(n))) for along, n in zip(part, self.space, strict=True)]
        values = np.empty((len(numbers), self.channels, *lengths), self._values.dtype)
        # One by one into one array: a list of all would take as much memory again.
        for row, number in enumerate(numbers):
            region: Any = (int(number), *channels, *part)
            values[row] = self._values[region]
        return values

    def training_mean(self, slab: Slices | None = None) -> float:
        """Compute the mean over all training items, in full or in a slab, reading one at a time."""
        # Summing in pieces of NumPy's buffer gives the same bits as the mean of one large array.
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

    def training_moments(
        self, slab: Slices | None = None, numbers: NDArray[np.integer] | None = None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Compute mean and standard deviation of each channel over training items.

        Parameters
        ----------
        slab : tuple of slice, optional
            Part of the items, one slice per axis; by default all.
        numbers : int array, optional
            Those of the items; by default all training items.

        Returns
        -------
        mean, std : tuple of float
            One number per channel. The deviation of a constant channel is 1, so that it can be
            divided by.
        """
        numbers = np.flatnonzero(self.training) if numbers is None else numbers
        means, squares = [], []
        for number in numbers:
            (values,) = self.read([int(number)], slab).astype(np.float64)
            flat = values.reshape(self.channels, -1)
            means.append(flat.mean(axis=1))
            squares.append(flat.var(axis=1))
        mean = np.mean(means, axis=0)
        # All items have as many voxels, so their variances and those of their means are averaged.
        variance = np.mean(squares, axis=0) + np.var(means, axis=0)
        std = np.where(variance > 0, np.sqrt(variance), 1.0)
        return tuple(map(float, mean)), tuple(map(float, std))

    def truth(self, number: int, slab: Slices | None = None) -> NDArray[np.bool_] | None:
        """Read the mask of an item's known lesions or objects, in full or cut to a slab.

        None if the dataset has no masks; all False if the item has none.
        """
        if "truth" not in self.group:
            return None
        region: Any = (number, *(slab or ()))
        return np.asarray(array(self.group, "truth")[region]) > 0

    def boxes(self, number: int) -> NDArray[np.float32] | None:
        """Read the boxes (boxes, 4) of an item's known objects: xmin, ymin, xmax, ymax.

        In pixels of the stored image, from 0 and without those at xmax and ymax. None if the
        dataset has no boxes; of length 0 if the item has none.
        """
        if "boxes" not in self.group:
            return None
        found = np.asarray(array(self.group, "boxes")[number], dtype=np.float32)
        return found[np.isfinite(found).all(axis=1)]
