"""Changed activations whose axes a network has put into another order, split or left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from preddiff.engines.incremental.boxes import Boxes, Changed, Intact

# What stands for an axis of channels where the numbers of spatial axes are listed.
CHANNELS = -1


@dataclass(frozen=True)
class Arranged:
    """Activations of a layer as `Changed`, with any number of axes of channels at any place.

    Each unit of a map is still a place of the input, so that operations on channels, such as
    normalisation of the channels of each unit, act on boxes as they act on whole maps.

    Attributes
    ----------
    intact : Intact
        Activations (1, ...) with the axes as they are here.
    values : tensor (windows * draws, ...)
        Activations in the boxes, all draws of the first window first.
    boxes : Boxes
    axes : tuple of int
        For each axis but the first: the number of the spatial axis that it is, or `CHANNELS`.
    """

    intact: Intact
    values: Tensor
    boxes: Boxes
    axes: tuple[int, ...]

    @property
    def draws(self) -> int:
        """Variants for each window."""
        return len(self.values) // len(self.boxes.starts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole activations."""
        pairs = zip(self.axes, self.values.shape[1:], self.intact.maps.shape[1:], strict=True)
        sizes = (here if axis == CHANNELS else whole for axis, here, whole in pairs)
        return (len(self.values), *sizes)

    @property
    def space(self) -> tuple[int, ...]:
        """Units of a map along each spatial axis."""
        shape = self.shape
        return tuple(shape[1 + self.axes.index(axis)] for axis in range(len(self.boxes.size)))

    @property
    def share(self) -> float:
        """Share of the map that a box covers."""
        return self.maps.share

    @cached_property
    def maps(self) -> Changed:
        """The same activations (windows * draws, channels, *space), with one axis of channels."""
        intact = self.intact.made_once(self.axes, self._channels_first)
        return Changed(intact, self._channels_first(self.values), self.boxes)

    def read(self, boxes: Boxes) -> Tensor:
        """Activations in other boxes inside the map, with the axes as they are here."""
        if boxes.same_as(self.boxes):
            return self.values
        return self._as_here(self.maps.read(boxes))

    def whole(self) -> Tensor:
        """Activations of the whole maps, shape `shape`."""
        return self._as_here(self.maps.whole())

    @property
    def _order(self) -> list[int]:
        """Axes here, in the order: variants, space, channels."""
        space = [1 + self.axes.index(axis) for axis in range(len(self.boxes.size))]
        return [0, *space, *(1 + n for n, axis in enumerate(self.axes) if axis == CHANNELS)]

    def _channels_first(self, x: Tensor) -> Tensor:
        x = x.permute(self._order)
        # Channels stay the last axis in memory, since they are gathered as rows.
        return (
            x.flatten(1 + len(self.boxes.size)).movedim(-1, 1)
            if _has_channels(self.axes)
            else x.unsqueeze(1)
        )

    def _as_here(self, maps: Tensor) -> Tensor:
        order = self._order
        sizes = [self.values.shape[axis] for axis in order[1 + len(self.boxes.size) :]]
        x = maps.movedim(1, -1)
        x = x.reshape(*x.shape[:-1], *sizes)
        return x.permute([order.index(axis) for axis in range(len(order))])


Activations = Changed | Arranged


def arranged(x: Activations) -> Arranged:
    """Activations with the axes that they have."""
    if isinstance(x, Arranged):
        return x
    return Arranged(x.intact, x.values, x.boxes, _usual(len(x.boxes.size)))


def activations(intact: Intact, values: Tensor, boxes: Boxes, axes: Sequence[int]) -> Activations:
    """Activations whose values have the given axes, as `Changed` where they are in its order."""
    if tuple(axes) == _usual(len(boxes.size)):
        return Changed(intact, values, boxes)
    return Arranged(intact, values, boxes, tuple(axes))


def _usual(dimensions: int) -> tuple[int, ...]:
    return (CHANNELS, *range(dimensions))


def _has_channels(axes: Sequence[int]) -> bool:
    return CHANNELS in axes
