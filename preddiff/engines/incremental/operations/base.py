"""What operations on changed activations have in common."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from preddiff.engines.incremental.arranged import Activations, Arranged, arranged
from preddiff.engines.incremental.boxes import Boxes, Changed

# Takes the intact result and the operation's arguments to changed activations, to whole tensors
# once every position changes, or to None where it has to be done on whole maps. Parameters are
# named as torch names them, since a network may give its arguments by name. Tensors among the
# arguments are the same for all variants.
Operation = Callable[..., Any]


def on_maps(operation: Operation) -> Operation:
    """Operation on one argument, which must be maps (windows * draws, channels, *space)."""

    def checked(intact: Any, *args: Any, **kwargs: Any) -> Any:
        given = [x for x in _flat((*args, *kwargs.values())) if isinstance(x, Changed | Arranged)]
        if len(given) > 1 or isinstance(given[0], Arranged):
            return None
        return operation(intact, *args, **kwargs)

    return checked


def each(value: Any, dimensions: int) -> tuple[int, ...]:
    """Value for each axis, where one may be given for all."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values * dimensions if len(values) == 1 else values


def joint(maps: Sequence[Activations]) -> Boxes:
    """Boxes that hold those of all maps, which have the same space."""
    boxes = maps[0].boxes
    for other in maps[1:]:
        if not boxes.same_as(other.boxes):
            boxes = boxes.union(other.boxes, other.space)
    return boxes


def are_alike(maps: Sequence[Activations]) -> bool:
    """Whether maps have the same space, and their axes the same order."""
    return len({(x.space, arranged(x).axes) for x in maps}) == 1


def of_channels(x: Arranged, axes: Sequence[int]) -> bool:
    """Whether all of some axes, which may be negative, are of channels."""
    return all(number in channel_axes(x) for number in positive(x, axes))


def channel_axes(x: Arranged) -> list[int]:
    """Numbers of the axes of channels."""
    return [1 + n for n, axis in enumerate(x.axes) if axis < 0]


def positive(x: Arranged, axes: Sequence[int]) -> list[int]:
    """Numbers of axes, counted from the first one."""
    return [axis % (1 + len(x.axes)) for axis in axes]


def has_tensors(values: Any) -> bool:
    """Whether there is any tensor, or any changed activations, among values."""
    return any(isinstance(x, Tensor | Changed | Arranged) for x in _flat(values))


def _flat(values: Any) -> list[Any]:
    return [y for x in values for y in (_flat(x) if isinstance(x, tuple | list) else [x])]
