"""Stores of levels: the expectations of items whose maps are refined until they are accurate."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from preddiff.errors import InputError
from preddiff.evidence import Evidence
from preddiff.refinement import Drawn, Refinement
from preddiff.storage.filled import LAST_OF_LEVELS, FilledStore, reference_variable
from preddiff.storage.stores import DAMAGED_CHUNK, Variable, axes, reading_metadata
from preddiff.targets import Target
from preddiff.windows import FloatArray, IntArray, Windows

# Levels of an item at most. Each multiplies the forward passes by about 1.35, so that they take
# about 90,000 times as many as the second.
LEVELS = 40

# In the order of writing. The last comes last: a level that has it is complete.
_PER_WINDOW = ("draws", "change", "variance")
_ARRAYS = ("reference", *_PER_WINDOW, "passes", LAST_OF_LEVELS)


def level_variables(items: int, targets: int, windows: Windows) -> dict[str, Variable]:
    """Arrays of a store of levels: a chunk is a level of an item, a Zarr shard is an item.

    Parameters
    ----------
    items, targets : int
        Their number.
    windows : Windows
    """
    grid = tuple(f"window_{axis}" for axis in axes(len(windows.space)))

    def per_window(meaning: str, dtype: str, *dimensions: str) -> Variable:
        counts = (targets,) * len(dimensions)
        tail = (*counts, *windows.shape)
        return Variable(
            ("item", "level", *dimensions, *grid),
            (items, LEVELS, *tail),
            (1, 1, *tail),
            {"long_name": meaning},
            (1, LEVELS, *tail),
            dtype,
        )

    return {
        "reference": reference_variable(items, targets),
        "draws": per_window(
            "draws of each window at this level; 0 at all: its evidence is interpolated", "int32"
        ),
        "change": per_window(
            "mean of z over the draws of this level, less z of the intact item", "float32", "target"
        ),
        "variance": per_window("variance of z over the draws of this level", "float32", "target"),
        "passes": Variable(
            ("item", "level"),
            (items, LEVELS),
            (1, LEVELS),
            {"long_name": "forward passes of all levels up to this one"},
            dtype="int64",
        ),
        LAST_OF_LEVELS: Variable(
            ("item", "level", "target"),
            (items, LEVELS, targets),
            (1, LEVELS, targets),
            {
                "long_name": "root mean square error of the map after this level, as a share of "
                "its largest magnitude"
            },
            dtype="float64",
        ),
    }


class LevelStore(FilledStore):
    """The expectations of one explanation with an accuracy, filled level by level.

    Parameters
    ----------
    path : Path
        A store that the stage `open` made.
    mode : {"r", "r+"}
        For reading, or for reading and writing.

    Attributes
    ----------
    windows : Windows
        At stride 1.
    accuracy : float
        What was asked for when the store was opened last.
    refinement : Refinement

    Raises
    ------
    InputError
        If there is no such store, or its metadata are damaged.
    """

    def __init__(self, path: Path, mode: Literal["r", "r+"] = "r") -> None:
        super().__init__(path, mode)
        with reading_metadata(path):
            self.windows = Windows(tuple(self.about["space"]), self.about["k"], 1)
            self.accuracy = float(self.about["accuracy"])
            size = self.about["training_size"], len(self.about["classes"])
            self.refinement = Refinement(
                self.windows,
                [Target.parse(text) for text in self.targets],
                Evidence(None, *size),
                self.about["is_random"],
            )

    def accurate_levels(self, item: int) -> int | None:
        """Number of levels of an item until its maps are accurate; None if they are not yet."""
        passes, reached = self.errors(item)
        for number in range(len(reached)):
            if self.refinement.is_reached(int(passes[number]), reached[number], self.accuracy):
                return number + 1
        return None

    def errors(self, item: int) -> tuple[IntArray, FloatArray]:
        """Forward passes and errors after each level that an item has.

        Returns
        -------
        passes : int64 array (levels,)
        reached : float64 array (levels, targets)
        """
        try:
            reached = np.asarray(self._arrays[LAST_OF_LEVELS][item], dtype=np.float64)
            passes = np.asarray(self._arrays["passes"][item])
        except DAMAGED_CHUNK:
            reached, passes = np.full((1, 1), np.nan), np.zeros(1, np.int64)
        missing = np.isnan(np.vstack([reached, np.full(reached.shape[1], np.nan)])).any(axis=1)
        count = int(np.argmax(missing))
        return passes[:count], reached[:count]

    def write(self, item: int, number: int, level: Drawn, passes: int, reached: FloatArray) -> None:
        """Store a level of an item.

        Parameters
        ----------
        item : int
            Position in the store.
        number : int
            Of the level, which follows the last one that was stored.
        level : Drawn
            Its draws alone.
        passes : int
            Forward passes of all levels so far.
        reached : float64 array (targets,)
            Error of the maps after it.

        Raises
        ------
        InputError
            If a value is not finite in float32, or there is no room for more levels. Nothing is
            written then.
        """
        where = f"{self.path}: item '{self.items[item]}'"
        if number >= LEVELS:
            raise InputError(
                f"{where}: the error is {reached.max():.3g} after {LEVELS} levels and {passes:,} "
                f"forward passes; ask for a coarser accuracy than {self.accuracy:g}"
            )
        missing = level.draws == 0
        change, variance = (
            np.where(missing, np.nan, values).astype(np.float32)
            for values in (level.change, level.variance)
        )
        finite = all(np.isfinite(values[:, ~missing]).all() for values in (change, variance))
        # An error without bound is infinite: NaN would mean that the level is missing.
        if not finite or np.isnan(reached).any():
            raise InputError(
                f"{where}: an expectation or variance is too large for float32 at level {number}, "
                "so the level is not stored; check the values of the item and of the classifier's "
                "weights, and whether the network overflows at its precision"
            )
        self._arrays["reference"][item] = level.reference.astype(np.float32)
        found: dict[str, Any] = {
            "draws": level.draws.astype(np.int32),
            "change": change,
            "variance": variance,
            "passes": passes,
            LAST_OF_LEVELS: reached,
        }
        for name, values in found.items():
            self._arrays[name][item, number] = np.asarray(values)

    def read(self, item: int, levels: int) -> list[Drawn]:
        """Read the first levels of an item, each by itself.

        Raises
        ------
        InputError
            If one of them is missing or damaged.
        """
        found = []
        for number in range(levels):
            level = self._read(item, number)
            if level is None:
                raise InputError(
                    f"{self.path}: level {number} of item '{self.items[item]}' is damaged; run "
                    f"`preddiff verify --repair {self.path}`, and the study once more"
                )
            found.append(level)
        return found

    def drawn(self, item: int, levels: int) -> Drawn:
        """Add up the first levels of an item; raises as `read` does."""
        total = Drawn.nothing(self.windows, len(self.targets))
        for level in self.read(item, levels):
            total = total.with_level(level)
        return total

    def _read(self, item: int, number: int) -> Drawn | None:
        """Read a level of an item; None if it is damaged."""
        try:
            reference = np.asarray(self._arrays["reference"][item], dtype=np.float64)
            draws, change, variance = (
                np.asarray(self._arrays[name][item, number]) for name in _PER_WINDOW
            )
        except DAMAGED_CHUNK:
            return None
        drawn = draws > 0
        values = reference, change[:, drawn], variance[:, drawn]
        if not drawn.any() or any(np.isnan(part).any() for part in values):
            return None
        change, variance = (
            np.where(drawn, part, 0).astype(np.float64) for part in (change, variance)
        )
        return Drawn(reference, draws.astype(np.int64), change, variance)

    def damaged(self, item: int) -> list[int]:
        """Numbers of the levels of an item that were written, or begun, but cannot be read."""
        if not all(self._can_be_read(name, item) for name in ("passes", LAST_OF_LEVELS)):
            return [0]
        passes, reached = self.errors(item)
        count = len(reached)
        found = [n for n in range(count) if not passes[n] or self._read(item, n) is None]
        # A level that a job had begun to write when it was killed.
        begun = all(self._can_be_read(name, item, count) for name in _PER_WINDOW)
        return found or ([] if begun or count == LEVELS else [count])

    def _can_be_read(self, name: str, *place: int) -> bool:
        try:
            self._arrays[name][place]
        except DAMAGED_CHUNK:
            return False
        return True

    def discard(self, item: int, first: int) -> None:
        """Delete the levels of an item from some number on, which then count as not computed.

        A later level depends on all before it, so that none is kept behind one that is damaged.
        """
        passes, reached = self.errors(item)
        kept = self.read(item, first)
        # The last one first, since it makes levels complete.
        for name in reversed(_ARRAYS):
            for file in self._files(name, item):
                file.unlink(missing_ok=True)
        for number, level in enumerate(kept):
            self.write(item, number, level, int(passes[number]), reached[number])
