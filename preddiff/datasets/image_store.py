"""Data stores of images: 8-bit pixels, and name, class, digest and annotations of each image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.datasets.annotations import SIDES
from preddiff.datasets.items import SCALE
from preddiff.storage.stores import Variable, array, axes, create, update_attributes


def create_image_store(
    folder: Path,
    shape: tuple[int, ...],
    scale: float,
    *,
    boxes: int | None = None,
    truth: bool = False,
) -> None:
    """Create a store for at most this many images.

    Parameters
    ----------
    folder : Path
    shape : tuple of int
        (items, channels, height, width) of the 8-bit pixels.
    scale : float
        Factor that scales pixels to values from 0 to 1.
    boxes : int, optional
        Largest number of boxes of an image; None for a dataset without boxes.
    truth : bool
        Whether the dataset has masks.
    """
    items, channels, *space = shape
    names = axes(len(space))
    variables = {
        "intensity": Variable(
            ("item", "channel", *names),
            shape,
            (1, channels, *space),
            {"long_name": "pixel values, from 0 to 1", SCALE: scale},
            dtype="uint8",
        )
    }
    sides = {}
    if boxes is not None:
        # An image without boxes has one that is NaN: Zarr has no chunks of length 0.
        boxes = max(boxes, 1)
        sides = {"side": ("side", np.array(SIDES))}
        variables["boxes"] = Variable(
            ("item", "box", "side"),
            (items, boxes, len(SIDES)),
            (1, boxes, len(SIDES)),
            {"long_name": "boxes of objects, without the pixels at xmax and ymax", "units": "px"},
        )
    if truth:
        variables["truth"] = Variable(
            ("item", *names),
            (items, *space),
            (1, *space),
            {"long_name": "1 where the item has a known object"},
            dtype="uint8",
        )
    create(
        folder,
        variables,
        {
            "item": ("item", np.array([""] * items)),
            "group": ("item", np.array([""] * items)),
            "class_number": ("item", np.zeros(items, dtype=np.int64)),
            "training": ("item", np.zeros(items, dtype=bool)),
            "digest": ("item", np.array([""] * items)),
            **{axis: (axis, np.arange(n)) for axis, n in zip(names, space, strict=True)},
            **sides,
        },
        {},
    )


def finish_image_store(
    folder: Path,
    *,
    names: Sequence[str],
    groups: Sequence[str],
    numbers: NDArray[np.integer],
    training: NDArray[np.bool_],
    digests: Sequence[str],
    classes: Sequence[str],
    provenance: dict[str, object],
) -> None:
    """Write the attributes of the stored images, and resize the store to their number.

    Parameters
    ----------
    folder : Path
    names, groups : sequence of str
        Name and class of each image.
    numbers : int array
        Number of each image's class, -1 if unknown.
    training : bool array
        Whether an image is used for training classifiers and fitting samplers.
    digests : sequence of str
        Digest of each image's pixels.
    classes : sequence of str
        Names of all classes.
    provenance : dict
    """
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    columns = {
        "item": names,
        "group": groups,
        "class_number": numbers,
        "training": training,
        "digest": digests,
    }
    for name, cells in columns.items():
        column = array(group, name)
        column.resize((len(names),))
        column[:] = np.asarray(cells, dtype=column.dtype)
    for name in ("intensity", "boxes", "truth"):
        if name in group:
            values = array(group, name)
            values.resize((len(names), *values.shape[1:]))
    update_attributes(folder, {"classes": list(classes), "provenance": provenance})
