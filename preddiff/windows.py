"""Positions of windows, surroundings and blocks, in any number of dimensions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Voxels = TypeVar("Voxels", NDArray[Any], "Tensor")


class Block(Protocol):
    """Windows of one grid that are drawn together: the unit of work that is stored and resumed.

    Attributes
    ----------
    number : int
        Number among the blocks of an item, on which draws depend.
    index : int64 array (n, dimensions)
        Grid indices of the windows.
    """

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def index(self) -> IntArray: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in which results of the windows are returned."""
        ...

    @property
    def size(self) -> int:
        """Number of windows."""
        ...

    def parts(self, size: int) -> Iterator["Block"]:
        """Cut the block into parts of at most `size` windows.

        The windows of the parts, one part after the other, are those of the block in their order.
        All parts have the block's number; a block that is small enough is its only part.
        """
        ...


@dataclass(frozen=True)
class Box:
    """A block of neighbouring windows, in C order.

    Attributes
    ----------
    number : int
        Position among the blocks of an item, in C order.
    slices : tuple of slice
        The box in the grid of windows, one slice per axis.
    """

    number: int
    slices: tuple[slice, ...]

    @property
    def index(self) -> IntArray:
        """Grid indices of the windows, in C order, shape (n, dimensions)."""
        axes = [np.arange(part.start, part.stop) for part in self.slices]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Windows along each axis."""
        return tuple(part.stop - part.start for part in self.slices)

    @property
    def size(self) -> int:
        """Windows in the box."""
        return prod(self.shape)

    def parts(self, size: int) -> Iterator["Box"]:
        """Cut the box into boxes of at most `size` windows; see `Block.parts`."""
        for box in _boxes(self.shape, size):
            yield Box(
                self.number,
                tuple(
                    slice(whole.start + part.start, whole.start + part.stop)
                    for whole, part in zip(self.slices, box, strict=True)
                ),
            )


@dataclass(frozen=True, eq=False)
class Selection:
    """A block of windows that were chosen one by one.

    Attributes
    ----------
    number : int
    index : int64 array (n, dimensions)
        Grid indices of the windows.
    """

    number: int
    index: IntArray

    @property
    def shape(self) -> tuple[int]:
        """One axis, in the order of `index`."""
        return (self.size,)

    @property
    def size(self) -> int:
        """Windows in the selection."""
        return len(self.index)

    def parts(self, size: int) -> Iterator["Selection"]:
        """Cut the selection into parts of at most `size` windows; see `Block.parts`."""
        for start in range(0, self.size, size):
            yield Selection(self.number, self.index[start : start + size])


@dataclass(frozen=True)
class Windows:
    """All windows (inner patches) of side `k` of an input.

    Along each axis they start at 0, `stride`, 2 `stride`, ... If the last of these does not reach
    the end of the input, one more window is added there, so that each voxel is in a window. The
    windows may be those of a part of the input: then they start at its first voxel.

    The classifier may see less than the part that has windows, such as a slab of a volume. Windows
    then overlap the border of what it sees (`overlapping`). All voxels of such a window are
    redrawn, given everything outside of it, but the target depends on those inside only: its
    evidence is that of the voxels inside, where those of the window outside are unknown too.

    Parameters
    ----------
    space : tuple of int
        Voxels of the input along each spatial axis; windows span all channels.
    k : int
        Side of a window, in voxels.
    stride : int
        Distance between neighbouring windows, in voxels; 1 in the paper.
    part : tuple of slice, optional
        Part of the input that has windows; default: all of it. The other voxels are known, but no
        window contains them.
    seen : tuple of slice, optional
        Part of the input that the classifier sees, inside the part that has windows; default: all
        of that.

    Raises
    ------
    InputError
        If a window does not fit into the part, or the part into the input, or what the classifier
        sees into the part, or there are gaps between windows (`stride` > `k`).
    """

    space: tuple[int, ...]
    k: int
    stride: int = 1
    part: tuple[slice, ...] | None = None
    seen: tuple[slice, ...] | None = None

    def __post_init__(self) -> None:
        """Check that the windows fit into the input, or its part."""
        sides = _sides(self.region)
        ends = zip(self.region, self.space, strict=True)
        if any(one.start < 0 or one.stop > n for one, n in ends):
            raise InputError(
                f"the part {_ranges(self.region)} is outside an input of {_by(self.space)} voxels"
            )
        if any(before < 0 or after < 0 for before, after in self.margins):
            raise InputError(
                f"the classifier sees {_ranges(self.view)} of an input whose part "
                f"{_ranges(self.region)} has windows, which does not contain it"
            )
        if self.k < 1 or self.k > min(sides):
            raise InputError(
                f"window side k = {self.k} does not fit into an input of {_by(sides)} voxels: "
                f"choose k between 1 and {min(sides)}"
            )
        if not 1 <= self.stride <= self.k:
            raise InputError(
                f"stride = {self.stride} leaves voxels without a window of side k = {self.k}: "
                f"choose a stride between 1 and {self.k}"
            )

    @classmethod
    def overlapping(
        cls, space: tuple[int, ...], k: int, stride: int, seen: tuple[slice, ...]
    ) -> "Windows":
        """Return all windows that contain a voxel of what the classifier sees; see `Windows`.

        They extend beyond it by up to k - 1 voxels along each axis, where the input does. At stride
        1, each of its voxels that is k - 1 voxels or more from the borders of the input is in k^d
        windows.
        """
        part = tuple(
            slice(max(0, one.start - k + 1), min(n, one.stop + k - 1))
            for one, n in zip(seen, space, strict=True)
        )
        return cls(space, k, stride, part, None if part == seen else seen)

    @cached_property
    def region(self) -> tuple[slice, ...]:
        """The part of the input that has windows, one slice per axis."""
        return self.part or tuple(slice(0, n) for n in self.space)

    @cached_property
    def view(self) -> tuple[slice, ...]:
        """The part of the input that the classifier sees, one slice per axis."""
        return self.seen or self.region

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """How far windows extend before and after what the classifier sees, along each axis."""
        return tuple(
            (seen.start - own.start, own.stop - seen.stop)
            for seen, own in zip(self.view, self.region, strict=True)
        )

    def cropped(self, box: tuple[slice, ...]) -> "Windows":
        """Return the same windows in a box of the input, which contains all of them."""

        def inside(part: tuple[slice, ...]) -> tuple[slice, ...]:
            return tuple(
                slice(own.start - one.start, own.stop - one.start)
                for own, one in zip(part, box, strict=True)
            )

        space = tuple(one.stop - one.start for one in box)
        seen = None if self.seen is None else inside(self.seen)
        return replace(self, space=space, part=inside(self.region), seen=seen)

    def cut(self, x: Voxels) -> Voxels:
        """Return a view of the part of an input (..., *space) that the classifier sees."""
        place: Any = (..., *self.view)
        return x[place]

    def padded(self, values: FloatArray) -> FloatArray:
        """Return values (..., *view) of what the classifier sees as (..., *space), 0 elsewhere."""
        found = np.zeros((*values.shape[: -len(self.space)], *self.space))
        self.cut(found)[...] = values
        return found

    @cached_property
    def alone(self) -> "Windows":
        """The same windows in the part of the input that has windows."""
        return replace(self.cropped(self.region), part=None)

    @cached_property
    def starts(self) -> tuple[IntArray, ...]:
        """First voxels of the windows along each axis, in ascending order."""
        return tuple(self._starts(one) for one in self.region)

    def _starts(self, part: slice) -> IntArray:
        last = part.stop - self.k
        starts = np.arange(part.start, last + 1, self.stride, dtype=np.int64)
        return starts if starts[-1] == last else np.append(starts, last)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of windows along each axis: the shape of the grid of windows."""
        return tuple(len(starts) for starts in self.starts)

    @cached_property
    def counts(self) -> FloatArray:
        """Number of windows that contain each voxel, shape `space`."""
        return self.sum_over_windows(np.ones(self.shape))

    def sum_over_windows(self, values: NDArray[np.floating]) -> FloatArray:
        """Sum, for each voxel, the values of the windows that contain it.

        Parameters
        ----------
        values : array (..., *shape)
            One number per window.

        Returns
        -------
        float64 array (..., *space)
        """
        return self._along_axes(np.asarray(values, dtype=np.float64), self._spread)

    def sum_in_windows(self, values: NDArray[np.floating]) -> FloatArray:
        """Sum the values of the voxels in each window; the transpose of `sum_over_windows`.

        Parameters
        ----------
        values : array (..., *space)
            One number per voxel.

        Returns
        -------
        float64 array (..., *shape)
        """
        return self._along_axes(np.asarray(values, dtype=np.float64), self._collect)

    def _along_axes(
        self, values: FloatArray, step: Callable[[FloatArray, int], FloatArray]
    ) -> FloatArray:
        dimensions = len(self.space)
        for axis in range(dimensions):
            moved = np.moveaxis(values, axis - dimensions, 0)
            values = np.moveaxis(step(moved, axis), 0, axis - dimensions)
        return values

    def _spread(self, values: FloatArray, axis: int) -> FloatArray:
        out = np.zeros((self.space[axis], *values.shape[1:]))
        for offset in range(self.k):
            out[self.starts[axis] + offset] += values
        return out

    def _collect(self, values: FloatArray, axis: int) -> FloatArray:
        parts = [values[self.starts[axis] + offset] for offset in range(self.k)]
        return np.asarray(np.sum(parts, axis=0))

    def first_voxels(self, block: Block) -> IntArray:
        """Return the first voxels of a block's windows, in its order, shape (n, dimensions)."""
        return np.stack([s[i] for s, i in zip(self.starts, block.index.T, strict=True)], axis=1)

    @cached_property
    def box(self) -> tuple[int, ...]:
        """Sides of the boxes that contain what a classifier sees of windows; see `boxes`."""
        return tuple(min(self.k, side) for side in _sides(self.view))

    def boxes(self, block: Block) -> IntArray:
        """Return boxes that contain what the classifier sees of a block's windows.

        The box of a window inside what it sees is the window. That of another one is moved inside,
        so that all have the same sides (`box`): it also contains voxels that are not redrawn.

        Returns
        -------
        int64 array (n, dimensions)
            First voxels of the boxes, in what the classifier sees.
        """
        room = np.subtract(_sides(self.view), self.box)
        return np.clip(self.first_voxels(block) - self.corner, 0, room)

    @property
    def corner(self) -> IntArray:
        """First voxel of what the classifier sees, (dimensions,)."""
        return np.array([one.start for one in self.view], dtype=np.int64)

    @property
    def everything(self) -> Box:
        """All windows as one block."""
        return Box(0, tuple(slice(0, n) for n in self.shape))

    def block_shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of blocks of at most `size` windows: full rows, then full planes, ..."""
        return _box_shape(self.shape, size)

    def blocks(self, size: int) -> Iterator[Box]:
        """Divide the grid of windows into blocks of at most `size` windows, in C order."""
        for number, box in enumerate(_boxes(self.shape, size)):
            yield Box(number, box)


@dataclass(frozen=True)
class Surroundings:
    """The surroundings (outer patches, side `l`) of windows, shifted to stay inside the input.

    Parameters
    ----------
    windows : Windows
    l : int
        Side of the outer patch. The window is at its centre, so `l - k` must be even; only at the
        borders of the input is the window off the centre. Where the windows are those of a part of
        the input, their surroundings extend beyond it.

    Raises
    ------
    InputError
        If the window cannot be at the centre, or the outer patch does not fit into the input.
    """

    windows: Windows
    l: int

    def __post_init__(self) -> None:
        """Check that the surroundings fit the windows and the input."""
        k, l, space = self.windows.k, self.l, self.windows.space
        if l < k:
            raise InputError(
                f"l = {l} is smaller than k = {k}: the surroundings must contain the window"
            )
        if (l - k) % 2:
            raise InputError(
                f"l - k = {l - k} is odd, so a window of side k = {k} cannot be at the centre of "
                f"surroundings of side l = {l}: choose l = {l - 1} or l = {l + 1}"
            )
        if l > min(space):
            raise InputError(
                f"surroundings of side l = {l} do not fit into an input of {_by(space)} voxels: "
                f"choose l up to {min(space)}"
            )

    @property
    def region(self) -> tuple[slice, ...]:
        """The part of the input that the surroundings lie in, one slice per axis.

        In an input that is cropped to it, all surroundings are the same.
        """
        return tuple(slice(int(starts[0]), int(starts[-1]) + self.l) for starts in self.starts)

    @cached_property
    def starts(self) -> tuple[IntArray, ...]:
        """First voxels of the surroundings of the windows along each axis."""
        margin = (self.l - self.windows.k) // 2
        return tuple(
            np.clip(starts - margin, 0, length - self.l)
            for starts, length in zip(self.windows.starts, self.windows.space, strict=True)
        )

    def first_voxels(self, block: Block) -> IntArray:
        """Return the first voxels of the surroundings of a block's windows, (n, dimensions)."""
        return np.stack([s[i] for s, i in zip(self.starts, block.index.T, strict=True)], axis=1)

    def positions(self, block: Block) -> IntArray:
        """Return the positions of a block's windows in their surroundings, (n, dimensions)."""
        return self.windows.first_voxels(block) - self.first_voxels(block)


def offsets(side: int | tuple[int, ...], space: tuple[int, ...], channels: int = 1) -> IntArray:
    """Return the offsets of a patch's voxels from its first voxel, in a flattened input.

    Parameters
    ----------
    side : int or tuple of int
        Side of the patch, or its side along each axis.
    space : tuple of int
        Spatial shape of the input.
    channels : int
        Number of channels of the input; a patch spans all.

    Returns
    -------
    int64 array (channels * side**d,), in C order of (channel, *patch).
    """
    sides = (side,) * len(space) if isinstance(side, int) else side
    box = np.indices((channels, *sides)).reshape(len(space) + 1, -1)
    return np.asarray(np.ravel_multi_index(tuple(box), (channels, *space)), dtype=np.int64)


def inside(k: int, l: int, position: tuple[int, ...], channels: int = 1) -> NDArray[np.bool_]:
    """Mark the window in its surroundings.

    Returns
    -------
    bool array (channels * l**d,), true for the window's voxels, in C order of (channel, *patch).
    """
    mask = np.zeros((channels,) + (l,) * len(position), dtype=bool)
    mask[(slice(None), *(slice(p, p + k) for p in position))] = True
    return mask.reshape(-1)


def _box_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Shape of boxes of at most `size` cells of a grid: whole rows, then whole planes, ..."""
    found: list[int] = []
    for n in reversed(shape):
        found.insert(0, min(n, max(1, size // prod(found))))
    return tuple(found)


def _boxes(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, ...]]:
    """Cut a grid into boxes of at most `size` cells, in C order."""
    step = _box_shape(shape, size)
    for corner in np.ndindex(*(-(-n // s) for n, s in zip(shape, step, strict=True))):
        yield tuple(
            slice(c * s, min((c + 1) * s, n)) for c, s, n in zip(corner, step, shape, strict=True)
        )


def _sides(part: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(one.stop - one.start for one in part)


def _ranges(part: tuple[slice, ...]) -> str:
    return ", ".join(f"{one.start}:{one.stop}" for one in part)


def _by(space: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in space)
