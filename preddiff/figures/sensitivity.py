"""Figures 1 and 13 of the paper: images, sensitivity maps and relevance."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from matplotlib.figure import Figure
from pydantic import Field

from preddiff.errors import InputError
from preddiff.figures.base import FIGURES
from preddiff.figures.image_maps import ImageFigureSettings, ImageMaps, chosen_items, image_panel
from preddiff.figures.panels import Row, draw_panels

if TYPE_CHECKING:
    from preddiff.methods.base import MethodSettings


@FIGURES.register
class SensitivityFigure(ImageFigureSettings):
    """Image, sensitivity map and relevance, one row per image (figures 1 and 13)."""

    shows_several: ClassVar[bool] = True

    kind: Literal["sensitivity"] = Field(description="sensitivity")

    def problem_with(self, explanations: "Sequence[MethodSettings]") -> str | None:
        """Require one explanation of magnitudes and one of evidence."""
        if sorted(e.shows_evidence for e in explanations) != [False, True]:
            return (
                "give one explanation of magnitudes, such as method sensitivity, and one of "
                "evidence, such as prediction-difference"
            )
        return None

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw the figure as a grid of panels."""
        rows = rows_of(maps, chosen_items(maps, self), self)
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap)


def rows_of(
    maps: Sequence[ImageMaps], names: Sequence[str], figure: ImageFigureSettings
) -> list[Row]:
    """Arrange image, sensitivity map and relevance in one row per image."""
    gradient = next((one for one in maps if not one.shows_evidence), None)
    other = next((one for one in maps if one.shows_evidence), None)
    if gradient is None or other is None:
        raise InputError(
            "a figure of kind sensitivity needs a store of sensitivity maps and one of relevance"
        )
    chosen = figure.targets or [other.targets[0]]
    return [
        Row(
            other.row_label(name),
            [
                image_panel(other, name),
                gradient.panel(name, 0, f"sensitivity map\n{gradient.describe(name, 0)}"),
                *(other.panel(name, other.target(text)) for text in chosen),
            ],
        )
        for name in names
    ]
