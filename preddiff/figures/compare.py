"""Figures 3, 4 and 8 of the paper: several explanations side by side."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from matplotlib.figure import Figure
from pydantic import Field

from preddiff.figures.base import FIGURES
from preddiff.figures.image_maps import ImageFigureSettings, ImageMaps, chosen_items, image_panel
from preddiff.figures.panels import Row, draw_panels


@FIGURES.register
class Compare(ImageFigureSettings):
    """Maps of several explanations side by side, one row per image (figures 3, 4 and 8)."""

    shows_several: ClassVar[bool] = True

    kind: Literal["compare"] = Field(description="compare")

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw the figure as a grid of panels."""
        rows = rows_of(maps, chosen_items(maps, self), self)
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap)


def rows_of(
    maps: Sequence[ImageMaps], names: Sequence[str], figure: ImageFigureSettings
) -> list[Row]:
    """Arrange the image and the maps of all explanations in one row per image."""
    rows = []
    for name in names:
        panels = [image_panel(maps[0], name)]
        for one in maps:
            targets = figure.targets or [one.targets[0]]
            panels += [
                one.panel(
                    name,
                    one.target(text),
                    f"{one.title}\n{one.describe(name, one.target(text))}",
                )
                for text in targets
            ]
        rows.append(Row(maps[0].row_label(name), panels))
    return rows
