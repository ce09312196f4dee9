"""Stores of maps that jobs fill item by item, for methods that compute maps directly."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.storage.filled import FILLED, FilledStore, filled_arrays
from preddiff.storage.relevance import map_coordinates, map_variables
from preddiff.storage.stores import DAMAGED_CHUNK, Variable, attributes, create, open_store

# Written last: an item that has it is complete.
_LAST = "prediction"


class Extra(NamedTuple):
    """A further array of a method.

    Attributes
    ----------
    dimensions : tuple of str
        Names of the axes after `item`; `target` and the spatial axes are those of the maps.
    shape : tuple of int
        Length of each of these axes.
    meaning : str
        Description, which is stored as `long_name`.
    """

    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    meaning: str


def create_maps(
    folder: Path,
    items: Sequence[str],
    digests: Sequence[str],
    targets: Sequence[str],
    classes: NDArray[np.int64],
    extras: Mapping[str, Extra],
    provenance: dict[str, Any],
    about: dict[str, Any],
) -> None:
    """Make an empty store of maps: a relevance store whose items are written one by one.

    Parameters
    ----------
    folder : Path
    items, digests, targets : sequence of str
    classes : int64 array (items, targets)
        Number of each target's class.
    extras : mapping of str to Extra
        Further arrays, with one chunk per item.
    provenance, about : mapping
        Attributes; the latter with `corner` and `space` of the classifier's input.
    """
    # Without units: attributions and masks are not evidence in bits.
    variables = map_variables(
        items,
        targets,
        about["space"],
        {
            "relevance": {"long_name": "relevance of a voxel, as the method defines it"},
            "stderr": {"long_name": "standard error of the relevance; 0 if it is exact or unknown"},
        },
    )
    for name, one in extras.items():
        variables[name] = Variable(
            ("item", *one.dimensions),
            (len(items), *one.shape),
            (1, *one.shape),
            {"long_name": one.meaning},
        )
    variables[_LAST] = Variable(
        ("item", "target"),
        (len(items), len(targets)),
        (1, len(targets)),
        {"long_name": "value of the target for the intact item"},
    )
    create(
        folder,
        variables,
        {
            **map_coordinates(items, targets, classes, about),
            "item_digest": ("item", np.array(digests)),
        },
        provenance,
        {**about, FILLED: list(variables)},
    )


class MapStore(FilledStore):
    """The maps of one explanation, filled item by item by any number of jobs."""

    def missing(self, items: Sequence[int]) -> list[int]:
        """Items that are not computed yet, or whose values cannot be read."""
        return [item for item in items if not self.is_written(item) or self.damaged(item)]

    def is_written(self, item: int) -> bool:
        """Whether an item was computed."""
        try:
            return not np.isnan(np.asarray(self._arrays[_LAST][item])).any()
        except DAMAGED_CHUNK:
            return False

    def write(self, item: int, values: Mapping[str, NDArray[np.floating]]) -> None:
        """Store the results of an item.

        Parameters
        ----------
        item : int
            Position in the store.
        values : mapping of str to array
            One for each of the arrays that jobs fill, without the item axis.

        Raises
        ------
        InputError
            If a value is not finite, or too large for float32. Nothing is written then: NaN means
            "not computed yet".
        """
        with np.errstate(over="ignore"):
            stored = {name: values[name].astype(np.float32) for name in self.filled}
        for name, found in stored.items():
            if not np.isfinite(found).all():
                raise InputError(
                    f"{self.path}: item '{self.items[item]}': its {name} is not finite, or too "
                    "large for float32, so nothing of it is stored; check the values of the item "
                    "and of the classifier's weights"
                )
        for name, found in stored.items():
            self._arrays[name][item] = found

    def damaged(self, item: int) -> list[str]:
        """Names of the arrays in which an item was written, but cannot be read."""
        found = []
        written = self.is_written(item)
        for name in self.filled:
            try:
                values = np.asarray(self._arrays[name][item])
            except DAMAGED_CHUNK:
                found.append(name)
                continue
            if written and np.isnan(values).any():
                found.append(name)
        return found

    def discard(self, item: int) -> None:
        """Delete the results of an item, which then counts as not computed."""
        # The last one first, since it makes an item complete.
        for name in reversed(self.filled):
            for file in self._files(name, item):
                file.unlink(missing_ok=True)


def is_store_of_maps(path: Path) -> bool:
    """Whether a path is that of a store of maps; False if there is none, or it is damaged."""
    try:
        return filled_arrays(open_store(path))[-1] == _LAST
    except InputError:
        return False


def open_relevance(path: Path) -> zarr.Group:
    """Open a relevance store for reading; one that jobs fill must be complete.

    Raises
    ------
    InputError
        If there is no store, or items of it are missing.
    """
    group = open_store(path)
    if FILLED not in attributes(group):
        return group
    store = MapStore(path)
    missing = [item for item in range(len(store.items)) if not store.is_written(item)]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(store.items)} items are not computed yet, such as "
            f"'{store.items[missing[0]]}'; run `preddiff map {path}`"
        )
    return group
