"""Stores of levels: the expectations of items whose maps are refined until they are accurate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from preddiff.drawn import Drawn
from preddiff.errors import InputError
from preddiff.evidence import Evidence
from preddiff.refinement import Refinement
from preddiff.storage.filled import (
    LAST_OF_LEVELS,
    FilledStore,
    reference_variable,
    stored_windows,
)
from preddiff.storage.stores import DAMAGED_CHUNK, Variable, axes, reading_metadata
from preddiff.targets import Target
from preddiff.windows import FloatArray, IntArray, Windows

# Levels of an item at most. Each multiplies the forward passes by about 1.35, so that they take
# about 90,000 times as many as the second.
LEVELS = 40

_PER_WINDOW = ("draws", "change", "variance")
_OF_SHIFT = ("draws_in_both", "shift", "shift_variance")


def level_variables(
    items: int, targets: int, windows: Windows, in_two_precisions: bool = False
) -> dict[str, Variable]:
    """Arrays of a store of levels: a chunk is a level of an item, a Zarr shard is an item.

    Parameters
    ----------
    items, targets : int
        Their number.
    windows : Windows
    in_two_precisions : bool
        Whether draws are in reduced precision, so that their shift is stored too.

    Returns
    -------
    dict
        In the order of writing. The last comes last: a level that has it is complete.
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

    shift = {
        "draws_in_both": per_window(
            "draws of each window at this level that were made in float32 too", "int32"
        ),
        "shift": per_window(
            "mean over these draws of z in float32, less z in reduced precision, matched to "
            "float32 at the intact item",
            "float32",
            "target",
        ),
        "shift_variance": per_window("variance of this difference", "float32", "target"),
    }
    return {
        "reference": reference_variable(items, targets),
        "draws": per_window(
            "draws of each window at this level; 0 at all: its evidence is interpolated", "int32"
        ),
        "change": per_window(
            "mean of z over the draws of this level, less z of the intact item", "float32", "target"
        ),
        "variance": per_window("variance of z over the draws of this level", "float32", "target"),
        **(shift if in_two_precisions else {}),
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
            self.windows = stored_windows(self.about, 1)
            self.accuracy = float(self.about["accuracy"])
            size = self.about["training_size"], len(self.about["classes"])
            self.refinement = Refinement(
                self.windows,
                [Target.parse(text) for text in self.targets],
                Evidence(None, *size),
                self.about["is_random"],
                set(_OF_SHIFT) <= set(self.filled),
            )

    @property
    def _per_window(self) -> tuple[str, ...]:
        return _PER_WINDOW + (_OF_SHIFT if self.refinement.in_two_precisions else ())

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
        found = _as_arrays(_PER_WINDOW, level)
        finite = _is_finite(level)
        if level.shift is not None:
            found |= _as_arrays(_OF_SHIFT, level.shift)
            finite = finite and _is_finite(level.shift)
        # An error without bound is infinite: NaN would mean that the level is missing.
        if not finite or np.isnan(reached).any():
            raise InputError(
                f"{where}: an expectation or variance is too large for float32 at level {number}, "
                "so the level is not stored; check the values of the item and of the classifier's "
                "weights, and whether the network overflows at its precision"
            )
        self._arrays["reference"][item] = level.reference.astype(np.float32)
        for name, values in {**found, "passes": passes, LAST_OF_LEVELS: reached}.items():
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
        total = self.refinement.nothing()
        for level in self.read(item, levels):
            total = total.with_level(level)
        return total

    def _read(self, item: int, number: int) -> Drawn | None:
        """Read a level of an item; None if it is damaged."""
        try:
            reference = np.asarray(self._arrays["reference"][item], dtype=np.float64)
            shift = None
            if self.refinement.in_two_precisions:
                shift = self._drawn(np.zeros_like(reference), _OF_SHIFT, item, number)
            found = self._drawn(reference, _PER_WINDOW, item, number, shift)
            passes = np.asarray(self._arrays["passes"][item])[: number + 1]
        except DAMAGED_CHUNK:
            return None
        parts = [found] if shift is None else [found, shift]
        values = [found.reference]
        for part in parts:
            drawn = part.draws > 0
            values += [part.change[:, drawn], part.variance[:, drawn]]
        # What a lost file held looks as if it had not been drawn.
        is_whole = found.draws.any() and np.diff(passes, prepend=0)[-1] == found.passes
        return found if is_whole and not any(np.isnan(part).any() for part in values) else None

    def _drawn(
        self,
        reference: FloatArray,
        names: Sequence[str],
        item: int,
        number: int,
        shift: Drawn | None = None,
    ) -> Drawn:
        draws, change, variance = (np.asarray(self._arrays[name][item, number]) for name in names)
        change, variance = (
            np.where(draws > 0, part, 0).astype(np.float64) for part in (change, variance)
        )
        return Drawn(reference, draws.astype(np.int64), change, variance, shift)

    def damaged(self, item: int) -> list[int]:
        """Numbers of the levels of an item that were written, or begun, but cannot be read."""
        if not all(self._can_be_read(name, item) for name in ("passes", LAST_OF_LEVELS)):
            return [0]
        passes, reached = self.errors(item)
        count = len(reached)
        found = [n for n in range(count) if not passes[n] or self._read(item, n) is None]
        # A level that a job had begun to write when it was killed.
        begun = all(self._can_be_read(name, item, count) for name in self._per_window)
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
        for name in reversed(self.filled):
            for file in self._files(name, item):
                file.unlink(missing_ok=True)
        for number, level in enumerate(kept):
            self.write(item, number, level, int(passes[number]), reached[number])


def _as_arrays(names: Sequence[str], level: Drawn) -> dict[str, Any]:
    """Draws of a level, as they are stored: NaN where there are none."""
    change, variance = (
        np.where(level.draws == 0, np.nan, values).astype(np.float32)
        for values in (level.change, level.variance)
    )
    return dict(zip(names, (level.draws.astype(np.int32), change, variance), strict=True))


def _is_finite(level: Drawn) -> bool:
    """Whether a level can be stored in float32."""
    drawn = level.draws > 0
    return all(
        np.isfinite(values[:, drawn].astype(np.float32)).all()
        for values in (level.change, level.variance)
    )
