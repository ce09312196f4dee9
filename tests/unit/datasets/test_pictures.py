"""Picture files: colour modes, orientation, damage, geometry of pixels, boxes and masks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.v2 import functional

from preddiff.datasets.pictures import boxes_to_size, holds_pixels, read_mask
from preddiff.datasets.pictures import read_image as read
from preddiff.errors import InputError

GENERATOR = np.random.default_rng(0)
RGB = GENERATOR.integers(0, 256, (30, 40, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = RGB, mode: str | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def test_plain_images_are_read_as_they_are(tmp_path: Path) -> None:
    picture = read(save(tmp_path / "a.png"), resize=None, crop=None)
    assert np.array_equal(picture.pixels, np.moveaxis(RGB, -1, 0))
    assert picture.note == ""


@pytest.mark.parametrize(("size", "resize", "crop"), [((300, 400), 256, 224), ((90, 70), 40, 32)])
def test_geometry_is_that_of_torchvisions_preset(tmp_path: Path, size, resize, crop) -> None:
    pixels = GENERATOR.integers(0, 256, (*size, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", pixels)
    preset = ImageClassification(crop_size=crop, resize_size=resize, mean=(0,) * 3, std=(1,) * 3)
    expected = preset(Image.open(path)).numpy() * 255
    picture = read(path, resize=resize, crop=crop)
    assert picture.pixels.shape == (3, crop, crop)
    assert np.allclose(picture.pixels, expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA"])
def test_other_modes_are_converted_and_noted(tmp_path: Path, mode: str) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    path = save(tmp_path / f"a{suffix}", mode=mode)
    picture = read(path, resize=None, crop=None)
    assert "converted from" in picture.note
    expected = Image.open(path).convert("RGB")
    assert np.array_equal(picture.pixels, np.moveaxis(np.asarray(expected), -1, 0))


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[0, :, 3] = 255
    picture = read(save(tmp_path / "a.png", pixels), resize=None, crop=None)
    assert (picture.pixels[:, 0] == 0).all() and (picture.pixels[:, 1:] == 255).all()


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = (np.arange(20 * 30).reshape(20, 30) * 109).astype(np.uint16)
    picture = read(save(tmp_path / "a.png", values), resize=None, crop=None)
    assert np.abs(picture.pixels - values / 257).max() <= 0.5
    assert "converted" in picture.note


@pytest.mark.parametrize(("orientation", "turn"), [(0, 0), (1, 0), (3, 2), (6, 3), (8, 1), (9, 0)])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(save(tmp_path / "a.png", exif=exif), resize=None, crop=None)
    assert np.array_equal(np.moveaxis(picture.pixels, 0, -1), np.rot90(RGB, turn))
    assert ("EXIF" in picture.note) == (turn != 0)


@pytest.mark.parametrize(("orientation", "turn"), [(2, 0), (4, 2), (5, 3), (7, 1)])
def test_mirrored_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(save(tmp_path / "a.png", exif=exif), resize=None, crop=None)
    assert np.array_equal(np.moveaxis(picture.pixels, 0, -1), np.fliplr(np.rot90(RGB, turn)))
    assert "EXIF" in picture.note


def test_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture = read(tmp_path / "a.gif", resize=None, crop=None)
    assert (picture.pixels[0] == 255).all() and (picture.pixels[2] == 0).all()
    assert "first of 2 frames" in picture.note


@pytest.mark.parametrize("fault", ["missing", "truncated", "text", "empty", "bomb"])
def test_bad_files_are_refused_by_name(tmp_path: Path, fault: str, monkeypatch) -> None:
    path = save(tmp_path / "bad.png", GENERATOR.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:4000])
    elif fault == "text":
        path.write_text("not an image")
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"bad\.png"):
        read(path, resize=None, crop=None)


@pytest.mark.parametrize("resize", [None, 20])
@pytest.mark.parametrize("crop", [None, 16, (8, 12), (12, 50)])
def test_geometry_of_jpegs_with_any_crop(tmp_path: Path, resize, crop) -> None:
    path = save(tmp_path / "a.jpg")
    expected = Image.open(path)
    if resize is not None:
        expected = functional.resize(expected, [resize])
    if crop is not None:
        expected = functional.center_crop(expected, crop)
    picture = read(path, resize=resize, crop=crop)
    assert np.array_equal(picture.pixels, np.moveaxis(np.asarray(expected), -1, 0))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_tiffs_keep_their_range(tmp_path: Path, dtype: type) -> None:
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(dtype)
    picture = read(save(tmp_path / "a.tif", values), resize=None, crop=None)
    assert np.abs(picture.pixels - values.astype(np.float64) / 257).max() <= 0.5
    assert "converted" in picture.note


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "bad.tif", np.array([[0, np.nan, 1]], dtype=np.float32))
    with pytest.raises(InputError, match=r"bad\.tif.*NaN"):
        read(path, resize=None, crop=None)


def test_tiff_with_a_damaged_second_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    frame = Image.fromarray(RGB)
    frame.save(path, save_all=True, append_images=[frame])
    content = path.read_bytes()
    height = b"\x01\x01\x04\x00" if content[:2] == b"II" else b"\x01\x01\x00\x04"
    at = content.rindex(height)
    assert content.index(height) < at
    path.write_bytes(content[:at] + b"\xff\xff" + content[at + 2 :])
    with pytest.raises(InputError, match=r"bad\.tif"):
        read(path, resize=None, crop=None)


# Geometry of boxes and masks, by what becomes of pixels that are painted.

SIDES = st.integers(12, 70)
SIZES = st.one_of(st.none(), st.integers(8, 90))


def centres(boxes: np.ndarray, space: tuple[int, int], shrink: float = 0.0) -> np.ndarray:
    """Pixels whose centres are in boxes, which are smaller by some pixels on each side."""
    y, x = (np.arange(n) + 0.5 for n in space)
    found = np.zeros(space, dtype=bool)
    for xmin, ymin, xmax, ymax in boxes:
        rows = (y >= ymin + shrink) & (y < ymax - shrink)
        columns = (x >= xmin + shrink) & (x < xmax - shrink)
        found |= rows[:, None] & columns
    return found


@st.composite
def box_in_image(draw) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    height, width = draw(SIDES), draw(SIDES)
    xmin, ymin = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    xmax, ymax = draw(st.integers(xmin + 1, width)), draw(st.integers(ymin + 1, height))
    return (height, width), (xmin, ymin, xmax, ymax)


def painted(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    xmin, ymin, xmax, ymax = box
    pixels[ymin:ymax, xmin:xmax] = 255
    return pixels


@given(box_in_image(), SIZES)
def test_a_box_is_where_its_pixels_are_after_cropping(tmp_path_factory, image, crop) -> None:
    size, box = image
    path = save(tmp_path_factory.getbasetemp() / "cropped.png", painted(size, box))
    pixels = read(path, resize=None, crop=crop).pixels
    found = boxes_to_size(np.array([box]), size, resize=None, crop=crop)
    assert found.dtype == np.float32 and found.shape == (1, 4)
    assert np.array_equal(centres(found, pixels.shape[1:]), pixels[0] == 255)
    assert holds_pixels(found)[0] == (pixels == 255).any()


@given(box_in_image(), st.integers(8, 90), SIZES, st.sampled_from([0, 1]))
def test_a_box_is_where_its_pixels_are_after_resizing(
    tmp_path_factory, image, resize, crop, axis
) -> None:
    """A bright strip across the image, from `first` to `last` along an axis."""
    size, box = image
    first, last = box[axis], box[axis + 2]
    strip = (first, 0, last, size[0]) if axis == 0 else (0, first, size[1], last)
    path = save(tmp_path_factory.getbasetemp() / "resized.png", painted(size, strip))
    pixels = read(path, resize=resize, crop=crop).pixels[0]
    middle = pixels[pixels.shape[0] // 2] if axis == 0 else pixels[:, pixels.shape[1] // 2]
    low, high = boxes_to_size(np.array([strip]), size, resize=resize, crop=crop)[0, axis::2]
    centre = np.arange(len(middle)) + 0.5
    depth = np.minimum(centre - low, high - centre)
    # The image's border cuts the filter off, which moves the place of half brightness a little.
    outside = np.full(len(middle), -0.01)
    outside[[0, -1]] = -0.125
    assert (middle[depth < outside] < 128).all()
    # Edges are smeared by up to a pixel of the coarser image on either side, and are grey half way
    # in between, unless a strip is so thin that none of it is bright.
    smeared = max(1.0, resize / min(size))
    assert (middle[depth > smeared] > 250).all()
    whole = boxes_to_size(np.array([strip]), size, resize=resize, crop=None)[0, axis::2]
    if whole[1] - whole[0] > 2 * smeared:
        assert (middle[depth > 0.01] >= 127).all()


@given(box_in_image(), SIZES, SIZES)
def test_a_mask_is_where_its_box_is(tmp_path_factory, image, resize, crop) -> None:
    size, box = image
    path = save(tmp_path_factory.getbasetemp() / "mask.png", painted(size, box)[..., 0])
    mask = read_mask(path, size, resize=resize, crop=crop)
    assert mask.dtype == np.bool_
    found = boxes_to_size(np.array([box]), size, resize=resize, crop=crop)
    # The nearest pixel is in the box if and only if the centre is; rounding apart.
    assert mask[centres(found, mask.shape, 1e-3)].all()
    assert not mask[~centres(found, mask.shape, -1e-3)].any()


def test_boxes_keep_their_order_and_stay_inside() -> None:
    boxes = np.array([[5, 5, 10, 12], [-1, -1, 40, 31], [0, 0, 2, 2]], dtype=np.float64)
    found = boxes_to_size(boxes, (30, 40), resize=None, crop=20)
    assert found.tolist() == [[0, 0, 0, 7], [0, 0, 20, 20], [0, 0, 0, 0]]
    assert holds_pixels(found).tolist() == [False, True, False]
    assert boxes_to_size(np.empty((0, 4)), (30, 40), resize=10, crop=5).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "holds"),
    [
        ((0, 0, 1, 1), True),
        ((0.5, 0.5, 0.6, 0.6), True),
        ((0.6, 0, 1.4, 9), False),
        ((0, 0, 9, 0.5), False),
        ((3, 3, 3, 3), False),
    ],
)
def test_boxes_hold_pixels_by_their_centres(box, holds) -> None:
    assert holds_pixels(np.array([box])).tolist() == [holds]
    assert centres(np.array([box]), (9, 9)).any() == holds


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "F", "RGB", "RGBA", "LA"])
def test_masks_of_any_mode(tmp_path: Path, mode: str) -> None:
    expected = GENERATOR.random((11, 13)) < 0.3
    values = expected.astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 256)
    elif mode == "P":
        image = Image.fromarray(values * 7).convert("P")
        image.putpalette([5, 6, 7] * 256)  # colours do not count, but the index
        image.putdata((values * 7).reshape(-1).tolist())
    elif mode in ("RGBA", "LA"):
        # What is opaque is no object for that.
        colours = [values * 9] * (len(mode) - 1) + [np.full_like(values, 255)]
        image = Image.fromarray(np.stack(colours, axis=-1), mode)
    else:
        image = Image.fromarray(values * 255).convert(mode)
    path = tmp_path / ("mask.tif" if mode == "F" else "mask.png")
    image.save(path)
    assert np.array_equal(read_mask(path, (11, 13), resize=None, crop=None), expected)


def test_masks_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "mask.png", RGB[..., 0])
    with pytest.raises(InputError, match=r"mask\.png: the mask has 40 x 30 pixels.*has 30 x 40"):
        read_mask(tmp_path / "mask.png", (40, 30), resize=None, crop=None)
    save(tmp_path / "mask.jpg", RGB[..., 0])
    with pytest.raises(InputError, match=r"mask\.jpg: JPEG does not keep zeros"):
        read_mask(tmp_path / "mask.jpg", (30, 40), resize=None, crop=None)
    (tmp_path / "mask.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"mask\.png: not readable as an image"):
        read_mask(tmp_path / "mask.png", (30, 40), resize=None, crop=None)
    with pytest.raises(InputError, match=r"absent\.png: no such file"):
        read_mask(tmp_path / "absent.png", (30, 40), resize=None, crop=None)


def test_the_size_of_a_picture_is_that_of_the_upright_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read(save(tmp_path / "a.png", exif=exif), resize=20, crop=10).size == (40, 30)
