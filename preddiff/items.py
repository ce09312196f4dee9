"""The items of a data store, whole or cut to a classifier's slab."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.stores import array, attributes, open_store

Slices = tuple[slice, ...]


class Items:
    """The items of a data store, cut to a classifier's slab on demand.

    Parameters
    ----------
    path : Path
        A store that the stage prepare wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group = open_store(path)
        self.names = [str(name) for name in self._column("item")]
        self.groups = [str(name) for name in self._column("group")]
        self.training = np.asarray(self._column("training"), dtype=bool)
        self.digests = [str(name) for name in self._column("digest")]
        about = attributes(self.group)
        first, second = about["classes"]
        self.classes = (str(first), str(second))
        self.affine = np.array(about["affine"])
        self.space = array(self.group, "intensity").shape[1:]

    def _column(self, name: str) -> NDArray[np.generic]:
        return np.asarray(array(self.group, name)[:])

    def number(self, name: str) -> int:
        """Place of an item among all.

        Raises
        ------
        InputError
            If there is no such item.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"{self.path} has no item '{name}'") from None

    def read(
        self, numbers: Sequence[int] | NDArray[np.integer], slab: Slices | None = None
    ) -> NDArray[np.float32]:
        """Items as an array (n, 1, x, y, z), whole or cut to a slab."""
        stored = array(self.group, "intensity")
        part = slab or (slice(None),) * 3
        regions: list[Any] = [(int(n), *part) for n in numbers]
        return np.stack([np.asarray(stored[region]) for region in regions])[:, None]

    def truth(self, number: int, slab: Slices) -> NDArray[np.bool_] | None:
        """Mask of an item's known lesions in a slab, or None if the cohort has none."""
        if "truth" not in self.group:
            return None
        region: Any = (number, *slab)
        return np.asarray(array(self.group, "truth")[region]) > 0
