"""Data stores of images: 8-bit pixels, and the name, class and digest of each image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.datasets.items import SCALE
from preddiff.storage.stores import Variable, array, axes, create, update_attributes


def create_image_store(folder: Path, shape: tuple[int, ...], scale: float) -> None:
    """Create a store for at most this many images.

    Parameters
    ----------
    folder : Path
    shape : tuple of int
        (items, channels, height, width) of the 8-bit pixels.
    scale : float
        Factor that scales pixels to values from 0 to 1.
    """
    items, channels, *space = shape
    names = axes(len(space))
    create(
        folder,
        {
            "intensity": Variable(
                ("item", "channel", *names),
                shape,
                (1, channels, *space),
                {"long_name": "pixel values, from 0 to 1", SCALE: scale},
                dtype="uint8",
            )
        },
        {
            "item": ("item", np.array([""] * items)),
            "group": ("item", np.array([""] * items)),
            "class_number": ("item", np.zeros(items, dtype=np.int64)),
            "training": ("item", np.zeros(items, dtype=bool)),
            "digest": ("item", np.array([""] * items)),
            **{axis: (axis, np.arange(n)) for axis, n in zip(names, space, strict=True)},
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
    for name, values in columns.items():
        column = array(group, name)
        column.resize((len(names),))
        column[:] = np.asarray(values, dtype=column.dtype)
    intensity = array(group, "intensity")
    intensity.resize((len(names), *intensity.shape[1:]))
    update_attributes(folder, {"classes": list(classes), "provenance": provenance})
