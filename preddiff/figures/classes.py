"""Figure 7 of the paper: the top classes at the penultimate layer and at the output."""

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure
from pydantic import Field

from preddiff.figures.base import FIGURES
from preddiff.figures.image_maps import ImageFigureSettings, ImageMaps, chosen_items, image_panel
from preddiff.figures.panels import Row, draw_panels
from preddiff.targets import Target

_CLASSES = 3


@FIGURES.register
class TopClasses(ImageFigureSettings):
    """The top classes at the penultimate layer and at the output (figure 7)."""

    kind: Literal["classes"] = Field(description="classes")

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw the figure as a grid of panels."""
        rows = rows_of(maps, chosen_items(maps, self), self)
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap)


def rows_of(
    maps: Sequence[ImageMaps], names: Sequence[str], figure: ImageFigureSettings
) -> list[Row]:
    """Arrange the top classes at the penultimate layer and at the output in rows."""
    one = maps[0]
    ranks = [f"top-{rank}" for rank in range(1, _CLASSES + 1)]
    wanted = {
        "penultimate layer": [f"logit:{rank}" for rank in ranks],
        "output": [f"probability:{rank}" for rank in ranks],
    }
    if figure.targets is not None:
        chosen = [Target.parse(text) for text in figure.targets]
        wanted = {
            "penultimate layer": [str(t) for t in chosen if t.kind == "logit"],
            "output": [str(t) for t in chosen if t.kind == "probability"],
        }
    return [
        Row(
            f"{one.row_label(name)}\n{label}",
            [image_panel(one, name), *(one.panel(name, one.target(text)) for text in texts)],
        )
        for name in names
        for label, texts in wanted.items()
        if texts
    ]
