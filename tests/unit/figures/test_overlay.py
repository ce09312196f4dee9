"""Figures: colours, threshold, orientation and reproducible files."""

from pathlib import Path

import numpy as np
import pytest

from preddiff.figures.overlay import Scale, View, save
from preddiff.figures.patch_sizes import patch_sizes
from preddiff.figures.slices import slices_along_all_axes
from preddiff.figures.subjects import subjects
from preddiff.figures.weights import relevance_against_weights

AFFINE = np.diag([-2.0, 2, 2, 1])
SHAPE = (12, 16, 14)


@pytest.fixture
def volume(generator: np.random.Generator) -> np.ndarray:
    return generator.random(SHAPE)


@pytest.fixture
def relevance() -> np.ndarray:
    values = np.full(SHAPE, np.nan)
    values[4:9] = 0
    values[6, 3:6, 3:6], values[6, 9:12, 3:6], values[6, 9:12, 9:12] = 2.0, -1.0, 0.1
    return values


def test_red_is_for_blue_against_and_little_is_transparent() -> None:
    scale = Scale.of(np.array([2.0, -1.0, np.nan]), threshold=0.15, colormap="RdBu_r")
    assert scale.limit == 2
    strong, against, weak, unknown = scale.colours(np.array([2.0, -2.0, 0.29, np.nan]))
    assert strong[0] > strong[2] + 0.2 and strong[3] > 0
    assert against[2] > against[0] + 0.2 and against[3] > 0
    assert weak[3] == 0 and unknown[3] == 0


def test_slices_stand_upright_whichever_way_the_volume_is_stored() -> None:
    volume = np.zeros(SHAPE)
    volume[5, 2, 13] = 1  # posterior and superior
    up = View(0, AFFINE).image(volume, 5)
    assert up.shape == (14, 16) and up[0, 2] == 1
    flipped = np.diag([-2.0, 2, -2, 1])
    assert View(0, flipped).image(volume[:, :, ::-1], 5)[0, 2] == 1
    assert View(0, AFFINE).sides == ("P", "A")
    assert View(1, AFFINE).sides == ("R", "L")
    assert View(2, np.diag([2.0, 2, 2, 1])).sides == ("L", "R")


def test_slices_are_named_in_voxels_and_millimetres() -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 90
    assert View(0, affine).name(29) == "slice 29 (x = +32 mm)"


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_empty_maps_can_be_drawn(volume: np.ndarray, fill: float) -> None:
    empty = np.full(SHAPE, fill)
    look = {"axis": 0, "threshold": 0.15, "colormap": "RdBu_r", "title": "none"}
    look["quantity"] = "evidence"
    relevance_against_weights(volume, empty, empty, AFFINE, slices=(5,), **look)


def test_all_figures_draw_every_panel(volume: np.ndarray, relevance: np.ndarray) -> None:
    look = {"axis": 0, "threshold": 0.15, "colormap": "RdBu_r", "quantity": "masks"}
    one = relevance_against_weights(
        volume, relevance, relevance, AFFINE, slices=(5, 6), title="t", **look
    )
    assert len(one.axes) == 2 * 4 + 2
    several = subjects(
        [volume] * 5, [relevance] * 5, list("abcde"), AFFINE, columns=4, number=6, **look
    )
    assert [axes.get_title() for axes in several.axes[:5]] == list("abcde")
    slices = slices_along_all_axes(volume, relevance, AFFINE, title="t", count=3, **look)
    assert len(slices.axes) == 9 + 1
    assert sum(len(axes.patches) for axes in slices.axes[:9]) == 6  # outlines of the slab
    sizes = patch_sizes(
        volume,
        {"k = 2": relevance, "k = 3": relevance},
        [0.1, 0.15],
        ["evidence [bits]", "relevance"],
        AFFINE,
        slices=(5, 6),
        axis=0,
        colormap="RdBu_r",
        title="t",
    )
    assert "10%" in sizes.axes[4].get_ylabel() and "15%" in sizes.axes[5].get_ylabel()
    assert sizes.axes[4].get_ylabel().startswith("evidence [bits]")
    assert sizes.axes[5].get_ylabel().startswith("relevance")
    for figure in (one, several, slices):
        assert any(axes.get_ylabel().startswith("masks") for axes in figure.axes)


def test_files_are_the_same_each_time(
    volume: np.ndarray, relevance: np.ndarray, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        figure = subjects(
            [volume],
            [relevance],
            ["x"],
            AFFINE,
            columns=1,
            number=6,
            axis=0,
            threshold=0.15,
            colormap="RdBu_r",
            quantity="evidence",
        )
        save(figure, tmp_path / f"{name}.png")
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4
