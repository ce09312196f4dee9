"""What an explanation shows of itself: its figure, its labelled dataset, its view in notebooks."""

import base64
import io
import re

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import Image

import preddiff
from preddiff.explanation import Explanation


def brightness(batch: NDArray[np.float32]) -> ArrayLike:
    bright = batch.reshape(len(batch), -1).sum(1)
    return np.stack([-bright, bright, 2 * bright], axis=1) / 10


def found(
    shape: tuple[int, ...], target: int | list[int] = 1, *, exactly: bool = True
) -> Explanation:
    rng = np.random.default_rng(0)
    items = rng.random((20, *shape))
    sampler = preddiff.Conditional(preddiff.PatchGaussian.fit(items, l=3, patches=500))
    how = {"samples": 3} if exactly else {"accuracy": 0.2}
    return preddiff.explain(
        items[0], brightness, sampler, k=1, target=target, training_size=20, progress=False, **how
    )


def test_arrays_are_labelled() -> None:
    several = found((1, 6, 7), [1, 2], exactly=False)
    dataset = several.to_xarray()
    assert dict(dataset.sizes) == {"target": 2, "y": 6, "x": 7, "window_y": 6, "window_x": 7}
    at = dataset.sel(target=2, y=4, x=5)
    assert several.error is not None and several.draws is not None
    assert at["relevance"] == several.relevance[1, 4, 5]
    assert at["error"] == several.error[1, 4, 5]
    assert dataset["draws"].sel(window_y=3, window_x=2) == several.draws[3, 2]
    assert dataset["evidence"].sel(target=1, window_y=3, window_x=2) == several.evidence[0, 3, 2]
    assert dataset["relevance"].attrs["units"] == "bits"


def test_one_target_has_no_axis() -> None:
    dataset = found((1, 4, 5, 6)).to_xarray()
    assert dataset["relevance"].dims == ("x", "y", "z")
    assert dataset["target"].item() == 1
    assert "draws" not in dataset and "error" not in dataset


def test_windows_are_labelled_by_their_first_voxels() -> None:
    items = np.random.default_rng(0).random((20, 1, 8, 8))
    one = preddiff.explain(
        items[0], brightness, preddiff.Grey(0.5), k=3, stride=2, target=1,
        training_size=20, progress=False,
    )  # fmt: skip
    assert list(one.to_xarray()["window_x"].values) == [0, 2, 4, 5]


@pytest.mark.parametrize("shape", [(1, 8, 9), (3, 8, 9), (2, 8, 9), (1, 5, 6, 7), (2, 5, 6, 7)])
def test_figure_shows_each_target(shape: tuple[int, ...]) -> None:
    one = found(shape, [1, 2])
    titles = [axes.get_title() for axes in one.plot().axes]
    labels = [axes.get_ylabel() for axes in one.plot().axes]
    if len(shape) == 3:
        assert {"input", "output 1", "output 2"} <= set(titles)
    else:
        peak = np.unravel_index(np.abs(one.relevance[0]).argmax(), shape[1:])
        expected = [f"{axis} = {number}" for axis, number in zip("xyz", peak, strict=True)]
        assert titles[:3] == expected
        assert {"output 1", "output 2"} <= set(labels)


def test_notebooks_show_the_figure() -> None:
    one = found((1, 8, 9), exactly=False)
    html = one._repr_html_()
    encoded = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert encoded is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[1]))).convert("RGB"))
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    # Voxels that make the input brighter are for brightness, those that make it darker against it.
    assert (red - blue > 100).any() and (blue - red > 100).any()
    assert f"{np.abs(one.relevance).max():.3g} bits" in html
    assert one.draws is not None
    assert f"{np.count_nonzero(one.draws)} of 72 drawn" in html
    assert "<script" not in html


def test_flat_input_is_shown() -> None:
    one = preddiff.explain(
        np.zeros((1, 4, 4)), brightness, preddiff.Grey(0.0), k=2, target=1,
        samples=1, training_size=20, progress=False,
    )  # fmt: skip
    assert one.plot().axes
