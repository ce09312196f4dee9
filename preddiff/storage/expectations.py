"""Expectation stores: filled block by block by any number of jobs, resumed, and repaired."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.storage.filled import (
    EXPECTATION_ARRAYS,
    FilledStore,
    reference_variable,
    stored_windows,
)
from preddiff.storage.stores import DAMAGED_CHUNK, Variable, axes, reading_metadata
from preddiff.windows import Box, Windows

# Per window, in the order of writing. The mean comes last: a block that has it is complete.
_ARRAYS = EXPECTATION_ARRAYS
_, *_PER_WINDOW = _ARRAYS


def expectation_variables(
    items: int, targets: int, windows: Windows, block: int
) -> dict[str, Variable]:
    """Arrays of an expectation store: a chunk is a block of an item, a Zarr shard is an item.

    Parameters
    ----------
    items, targets : int
        Their number.
    windows : Windows
    block : int
        Windows per block, at most.
    """
    grid = tuple(f"window_{axis}" for axis in axes(len(windows.space)))
    chunk = windows.block_shape(block)
    shard = tuple(-(-n // c) * c for n, c in zip(windows.shape, chunk, strict=True))

    def per_window(name: str) -> Variable:
        return Variable(
            ("item", "target", *grid),
            (items, targets, *windows.shape),
            (1, targets, *chunk),
            {"long_name": name},
            (1, targets, *shard),
        )

    return {
        "reference": reference_variable(items, targets),
        "change": per_window("E[z | x without window] - z, to full relative precision"),
        "variance": per_window("variance of z over the sampler's draws"),
        "mean": per_window("expectation E[z | x without window]"),
    }


class ExpectationStore(FilledStore):
    """The expectations of one explanation, filled block by block by any number of jobs.

    Parameters
    ----------
    path : Path
        A store that the stage `open` made.
    mode : {"r", "r+"}
        For reading, or for reading and writing.

    Attributes
    ----------
    windows : Windows
    blocks : list of Box

    Raises
    ------
    InputError
        If there is no such store, or its metadata are damaged.
    """

    def __init__(self, path: Path, mode: Literal["r", "r+"] = "r") -> None:
        super().__init__(path, mode)
        with reading_metadata(path):
            self.windows = stored_windows(self.about, self.about["stride"])
            self.blocks = list(self.windows.blocks(self.about["block"]))

    def missing(self, item: int) -> list[Box]:
        """Blocks of an item that are not computed yet, or whose mean cannot be read."""
        mean, _ = self._readable("mean", item)
        return [block for block in self.blocks if np.isnan(_part(mean, block)).any()]

    def write(self, items: Sequence[int], block: Box, expectations: Expectations) -> None:
        """Store a block of some items.

        Parameters
        ----------
        items : sequence of int
            Position in the store of each item of `expectations`.
        block : Box
        expectations : Expectations

        Raises
        ------
        InputError
            If a value is not finite, or too large for float32. Nothing is written then: NaN means
            "not computed yet".
        """
        # Values that are too large become infinite, and are refused below.
        with np.errstate(over="ignore", invalid="ignore"):
            values = {name: getattr(expectations, name).astype(np.float32) for name in _ARRAYS}
        for name in _ARRAYS:
            self._require_finite(name, values[name], items, block)
        for row, item in enumerate(items):
            self._arrays["reference"][item] = values["reference"][row]
            for name in _PER_WINDOW:
                region: Any = (item, slice(None), *block.slices)
                self._arrays[name][region] = values[name][row]

    def _require_finite(
        self, name: str, values: NDArray[np.float32], items: Sequence[int], block: Box
    ) -> None:
        finite = np.isfinite(values).reshape(*values.shape[:2], -1).all(axis=-1)
        if not finite.all():
            row, target = np.argwhere(~finite)[0]
            raise InputError(
                f"{self.path}: item '{self.items[items[row]]}', target '{self.targets[target]}': "
                f"the {name} is not finite, or too large for float32, in block {block.number}, so "
                "the block is not stored; check the values of the item and of the classifier's "
                "weights, and whether the network overflows at its precision"
            )

    def read(self, item: int) -> dict[str, NDArray[np.float32]]:
        """Read all arrays of an item, by name, without the item axis.

        Returns
        -------
        dict of str to float32 array
            `reference` (targets,); `change`, `variance` and `mean` (targets, *windows).

        Raises
        ------
        InputError
            If blocks are missing or damaged.
        """
        try:
            found = {name: np.asarray(self._arrays[name][item]) for name in _ARRAYS}
        except DAMAGED_CHUNK:
            found = {}
        if found and not any(np.isnan(values).any() for values in found.values()):
            return found
        damaged = len(self.damaged(item))
        if damaged:
            raise InputError(
                f"{self.path}: {damaged} of {len(self.blocks)} blocks of item "
                f"'{self.items[item]}' are damaged; run `preddiff verify --repair {self.path}`, "
                "and the study once more"
            )
        missing = len(self.missing(item))
        raise InputError(
            f"{self.path}: {missing} of {len(self.blocks)} blocks of item "
            f"'{self.items[item]}' are not computed yet; run `preddiff explain {self.path}`"
        )

    def damaged(self, item: int) -> list[Box]:
        """Blocks of an item that were written, but cannot be read in all arrays."""
        found, unreadable = {}, set[int]()
        # The mean first, since it is written last: of a block that a job writes in the meantime,
        # nothing seems to be lacking.
        for name in reversed(_PER_WINDOW):
            found[name], numbers = self._readable(name, item)
            unreadable |= numbers
        reference, _ = self._readable("reference", item)

        def lacks_a_part(block: Box) -> bool:
            *others, mean = (np.isnan(_part(found[name], block)).any() for name in _PER_WINDOW)
            return bool(not mean and (any(others) or np.isnan(reference).any()))

        return [b for b in self.blocks if b.number in unreadable or lacks_a_part(b)]

    def discard(self, item: int, blocks: Sequence[Box]) -> None:
        """Delete blocks of an item, which then count as not computed; the others are kept.

        Blocks that cannot be read are deleted too.
        """
        # The mean first, since it makes a block complete.
        for name in reversed(_PER_WINDOW):
            values, _ = self._readable(name, item)
            for block in blocks:
                _part(values, block)[:] = np.nan
            self._file(name, item).unlink(missing_ok=True)
            self._arrays[name][item] = values

    def _readable(self, name: str, item: int) -> tuple[NDArray[np.float32], set[int]]:
        """Values of an item, NaN where they cannot be read, and the numbers of such blocks."""
        stored = self._arrays[name]
        try:
            return np.asarray(stored[item]), set()
        except DAMAGED_CHUNK:
            pass
        values = np.full(stored.shape[1:], np.nan, dtype=np.float32)
        unreadable = set()
        for block in self.blocks if name in _PER_WINDOW else ():
            region: Any = (item, slice(None), *block.slices)
            try:
                _part(values, block)[:] = np.asarray(stored[region])
            except DAMAGED_CHUNK:
                unreadable.add(block.number)
        return values, unreadable


def _part(values: NDArray[np.float32], block: Box) -> NDArray[np.float32]:
    return values[(slice(None), *block.slices)]
