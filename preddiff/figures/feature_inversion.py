"""Masks of guided feature inversion: image, first stage, and second stage of each target."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from preddiff.errors import InputError
from preddiff.figures.base import FIGURES
from preddiff.figures.image_maps import ImageFigureSettings, ImageMaps, chosen_items, image_panel
from preddiff.figures.panels import Panel, Row, draw_panels

if TYPE_CHECKING:
    from preddiff.methods.base import MethodSettings

_FIRST = "first_stage"
_TARGETS = 3


@FIGURES.register
class FeatureInversionFigure(ImageFigureSettings):
    """Image and masks of both stages of guided feature inversion, one row per image."""

    kind: Literal["feature-inversion"] = Field(description="feature-inversion")

    def problem_with(self, explanations: "Sequence[MethodSettings]") -> str | None:
        """Require an explanation with masks of a first stage."""
        several = super().problem_with(explanations)
        if several is not None:
            return several
        if not explanations[0].has_first_stage:
            return "give an explanation with masks of two stages, such as method feature-inversion"
        return None

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw the figure as a grid of panels."""
        rows = rows_of(maps[0], chosen_items(maps, self), self)
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap)


def rows_of(one: ImageMaps, names: Sequence[str], figure: ImageFigureSettings) -> list[Row]:
    """Arrange the image, the first stage's mask and the second stage's masks in one row per image.

    Raises
    ------
    InputError
        If the store has no masks of a first stage.
    """
    if _FIRST not in one.dataset:
        raise InputError(
            f"explanation '{one.name}' has no masks of a first stage: this kind of figure shows "
            "maps by both stages of feature inversion"
        )
    texts = figure.targets or one.targets[:_TARGETS]
    rows = []
    for name in names:
        first = one.dataset[_FIRST][one.items.index(name)].values
        panels = [image_panel(one, name), _panel(one, name, first, "stage 1:\nall classes", "")]
        panels += [_panel_of_target(one, name, one.target(text)) for text in texts]
        rows.append(Row(one.row_label(name), panels))
    return rows


def _panel_of_target(one: ImageMaps, name: str, target: int) -> Panel:
    row = one.items.index(name)
    values = one.dataset["relevance"][row, target].values
    kept, removed = (float(one.dataset[key][row, target]) for key in ("kept", "removed"))
    note = f"masked part alone {kept:.2g}, without it {removed:.2g}"
    return _panel(one, name, values, f"stage 2: {one.describe(name, target)}", note)


def _panel(one: ImageMaps, name: str, values: NDArray[np.floating], title: str, note: str) -> Panel:
    return Panel(one.image(name), values, "overlay", title, note)
