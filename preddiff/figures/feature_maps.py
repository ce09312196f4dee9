"""Figures 5 and 6 of the paper: feature maps of hidden layers."""

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure
from pydantic import Field

from preddiff.errors import InputError
from preddiff.figures.base import FIGURES
from preddiff.figures.image_maps import ImageFigureSettings, ImageMaps, chosen_items, image_panel
from preddiff.figures.panels import Row, draw_panels
from preddiff.targets import Target

# Number of feature maps that are shown of each layer by default.
_MAPS_PER_LAYER = 3


@FIGURES.register
class FeatureMaps(ImageFigureSettings):
    """Feature maps, one row per image and layer (figures 5 and 6)."""

    kind: Literal["maps"] = Field(description="maps")

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw the figure as a grid of panels."""
        rows = rows_of(maps, chosen_items(maps, self), self)
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap)


def rows_of(
    maps: Sequence[ImageMaps], names: Sequence[str], figure: ImageFigureSettings
) -> list[Row]:
    """Arrange feature maps in one row per image and layer."""
    one = maps[0]
    chosen = [Target.parse(text) for text in figure.targets or one.targets]
    layers: dict[str, list[int]] = {}
    for target in chosen:
        if target.kind == "map":
            layers.setdefault(target.layer, []).append(one.target(str(target)))
    if not layers:
        raise InputError(f"explanation '{one.name}' has no feature maps among its targets")
    if figure.targets is None:
        layers = {layer: found[:_MAPS_PER_LAYER] for layer, found in layers.items()}
    return [
        Row(
            f"{one.row_label(name)}\n{layer}",
            [image_panel(one, name), *(one.panel(name, number) for number in found)],
        )
        for name in names
        for layer, found in layers.items()
    ]
