"""Picture files: reading images and masks, and bringing them and boxes to the same size."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from preddiff.errors import InputError
from preddiff.windows import FloatArray

Value = TypeVar("Value")

# Height and width.
Size = tuple[int, int]
# EXIF's tag of the orientation; 1 is upright.
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """An image that was read from a file.

    Attributes
    ----------
    pixels : uint8 array (3, height, width)
    size : (int, int)
        Height and width of the upright image, before it was resized and cropped.
    note : str
        Which conversions were necessary; "" for upright RGB images.
    """

    pixels: NDArray[np.uint8]
    size: Size
    note: str


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; what Pillow raises in the body becomes an error of the user.

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, or suspiciously large.
    """
    try:
        with warnings.catch_warnings():
            # By default, Pillow only warns about files that unpack to an unreasonable size.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: the image is too large ({error})") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error) as error:
        raise InputError(f"{path}: not readable as an image, or truncated ({error})") from None


def to_size(value: Value, resize: int | None, crop: Size | int | None, **options: Any) -> Value:
    """Resize and crop an image, or boxes in it, as torchvision's presets do.

    Parameters
    ----------
    value : PIL image, or torchvision's `BoundingBoxes`
    resize : int, optional
        Length of the shorter side after resizing, in pixels; by default it is not resized.
    crop : int or (int, int), optional
        Side of the central square, or height and width of the central rectangle, that is cut out;
        by default it is not cropped. Sides that are shorter are padded with 0.
    **options
        Of torchvision's `resize`.
    """
    # torchvision is imported where it is needed, since that takes seconds.
    from torchvision.transforms.v2 import functional

    if resize is not None:
        value = functional.resize(value, [resize], **options)
    if crop is not None:
        sides = (crop, crop) if isinstance(crop, int) else crop
        # `center_crop` would pad as well, but pad boxes by another half pixel than images.
        height, width = (
            max(0, side - given)
            for side, given in zip(sides, functional.get_size(value), strict=True)
        )
        if height or width:
            padding = [width // 2, height // 2, (width + 1) // 2, (height + 1) // 2]
            value = functional.pad(value, padding)
        value = functional.center_crop(value, list(sides))
    return value


def read_image(path: Path, *, resize: int | None, crop: Size | int | None) -> Picture:
    """Read an image as 8-bit RGB: upright, resized and cropped as in torchvision's presets.

    Parameters
    ----------
    path : Path
    resize : int, optional
        Length of the shorter side after resizing (bilinear, with antialiasing), in pixels; by
        default the image is not resized.
    crop : int or (int, int), optional
        Side of the central square, or height and width of the central rectangle, that is cut out;
        by default the image is not cropped.

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, or suspiciously large.
    """
    with opened(path) as image:
        rgb, note = _to_rgb(image)
        found = to_size(rgb, resize, crop)
    pixels = np.ascontiguousarray(np.moveaxis(np.asarray(found), -1, 0))
    return Picture(pixels, (rgb.height, rgb.width), note)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    mode = image.mode
    upright = ImageOps.exif_transpose(image)
    if orientation in range(2, 9):
        notes.append("turned by its EXIF orientation")
    if mode == "RGB":
        return upright, "; ".join(notes)
    notes.append(f"converted from {_MODES.get(mode, mode)}")
    return _convert(upright), "; ".join(notes)


_MODES = {"L": "grey", "LA": "grey with alpha", "RGBA": "RGB with alpha", "P": "a palette"}
_MODES |= {"1": "black and white", "I": "16 bits", "F": "floating point"}


def _convert(image: Image.Image) -> Image.Image:
    """Convert to RGB as Pillow does, except for modes where Pillow loses what the image shows."""
    if image.mode.startswith("I"):
        # Pillow would clip to 255 values that range from 0 to 65535 in this mode.
        values = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it contains values that are NaN or infinite")
        span = float(np.ptp(values)) or 1.0
        image = Image.fromarray(np.round((values - values.min()) / span * 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def boxes_to_size(
    boxes: FloatArray, size: Size, *, resize: int | None, crop: Size | int | None
) -> NDArray[np.float32]:
    """Take boxes from an image to the resized and cropped image, and clip them there.

    Parameters
    ----------
    boxes : float array (boxes, 4)
        xmin, ymin, xmax, ymax, in pixels of the image: the pixel in column c covers c to c + 1.
    size : (int, int)
        Height and width of the image.
    resize, crop
        As in `to_size`.

    Returns
    -------
    float32 array (boxes, 4)
        In the same order, and pixels of the resized and cropped image. See `holds_pixels` for those
        that are not in it.
    """
    import torch
    from torchvision import tv_tensors

    inside = np.clip(boxes, 0, [size[1], size[0], size[1], size[0]])
    found = to_size(
        tv_tensors.BoundingBoxes(
            torch.from_numpy(inside).float().reshape(-1, 4), format="XYXY", canvas_size=size
        ),
        resize,
        crop,
    )
    return np.asarray(found.as_subclass(torch.Tensor).numpy(), dtype=np.float32)


def holds_pixels(boxes: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whether the centre of a pixel lies in each of some boxes (boxes, 4)."""
    # The first and last centre, c + 1/2, that are not left of or above, or right of or below, it.
    first, last = np.ceil(boxes[:, :2] - 0.5), np.ceil(boxes[:, 2:] - 0.5) - 1
    return np.asarray((first <= last).all(axis=1))


def read_mask(
    path: Path, size: Size, *, resize: int | None, crop: Size | int | None
) -> NDArray[np.bool_]:
    """Read the mask of an image's objects, resized (nearest pixel) and cropped like the image.

    Parameters
    ----------
    path : Path
        An image file: pixels that are not 0 in a colour, or of palette index 0, are of objects.
    size : (int, int)
        Height and width of the image, which the mask must have.
    resize, crop
        As in `to_size`.

    Returns
    -------
    bool array (height, width)

    Raises
    ------
    InputError
        If the file is not readable, is of another size, or is a JPEG file.
    """
    from torchvision.transforms import InterpolationMode

    with opened(path) as image:
        lossy = image.format in ("JPEG", "MPO")
        upright = ImageOps.exif_transpose(image)
        colours = upright.convert("RGB") if upright.mode in _WITH_ALPHA else upright
        values = np.asarray(colours)
    if lossy:
        raise InputError(
            f"{path}: JPEG does not keep zeros, so it cannot be used for masks: save it as PNG"
        )
    mask = values.reshape(*values.shape[:2], -1).any(axis=2)
    if mask.shape != size:
        raise InputError(
            f"{path}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels, but its image has "
            f"{size[1]} x {size[0]}: provide a mask of the same size"
        )
    found = to_size(
        Image.fromarray(mask.astype(np.uint8)),
        resize,
        crop,
        interpolation=InterpolationMode.NEAREST,
    )
    return np.asarray(found) > 0


_WITH_ALPHA = ("LA", "PA", "La", "RGBA", "RGBa")
