"""Concept sheets: the items that say most about each x-feature (after Qi, Khorram, Li 2017)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from preddiff.errors import InputError
from preddiff.figures.base import FIGURES, FigureSettings
from preddiff.figures.image_maps import ImageMaps, shorten_name
from preddiff.figures.panels import Panel, Row, draw_panels
from preddiff.settings.base import ItemName, Positive
from preddiff.targets import Target

_FOR, _AGAINST = "firebrick", "royalblue"


@FIGURES.register
class ConceptSheet(FigureSettings):
    """Items with the largest contributions of each x-feature, and its maps for them."""

    dimensions: ClassVar[int] = 2

    kind: Literal["concepts"] = Field(description="concepts")
    items: list[ItemName] | Positive | None = Field(
        None,
        description="images to choose from: names, or N for the first N; default: all that are "
        "explained",
    )
    targets: list[str] | None = Field(
        None,
        description="x-features to show, by the names of their targets in the store; default: all",
        min_length=1,
    )
    columns: Positive = Field(6, description="number of images per x-feature")
    rows: Positive = Field(
        10, description="largest number of x-features; those of the largest mean contributions"
    )

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw the sheet as a grid of panels, one row per x-feature."""
        rows, hidden = rows_of(maps[0], self)
        title = f"{maps[0].name}: contributions of x-features, and where they come from"
        if hidden:
            title += f" ({hidden} more not shown)"
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap, title=title)


def rows_of(one: ImageMaps, figure: ConceptSheet) -> tuple[list[Row], int]:
    """Arrange the x-features in rows, by their mean contribution over the items.

    Each row shows the items with the largest magnitudes. X-features that contribute to no item are
    left out.

    Returns
    -------
    rows : list of Row
    hidden : int
        Number of x-features that are not shown.

    Raises
    ------
    InputError
        If the store has no such item or target, or no x-feature is active.
    """
    items = _chosen_items(one, figure)
    targets = _chosen_targets(one, figure)
    places = [one.items.index(item) for item in items]
    values = one.dataset["prediction"].values[np.ix_(places, targets)]
    means = values.mean(0)
    order = [number for number in np.argsort(-means, kind="stable") if values[:, number].any()]
    if not order:
        raise InputError(f"explanation '{one.name}': all contributions to the chosen items are 0")
    rows = [
        Row(
            f"{_label(one, targets[number])}\nmean {means[number]:+.3g}",
            _panels(one, targets[number], items, values[:, number], figure.columns),
        )
        for number in order[: figure.rows]
    ]
    return rows, len(targets) - len(rows)


def _panels(
    one: ImageMaps, target: int, items: Sequence[str], values: NDArray[np.floating], columns: int
) -> list[Panel]:
    """Panels of the items with the largest magnitudes of a target, if they are not 0."""
    largest = np.argsort(-np.abs(values), kind="stable")[:columns]
    return [_panel(one, items[n], target, float(values[n])) for n in largest if values[n] != 0]


def _panel(one: ImageMaps, item: str, target: int, value: float) -> Panel:
    panel = replace(
        one.panel(item, target, f"{value:+.3g}"),
        title_colour=_FOR if value > 0 else _AGAINST,
        note=shorten_name(item),
    )
    return panel if one.shows_evidence else replace(panel, shows="overlay")


def _label(one: ImageMaps, target: int) -> str:
    node = Target.parse(one.targets[target])
    return f"x-feature {node.number}"


def _chosen_items(one: ImageMaps, figure: ConceptSheet) -> list[str]:
    if figure.items is None or isinstance(figure.items, int):
        return one.items[: figure.items]
    for name in figure.items:
        if name not in one.items:
            raise InputError(f"explanation '{one.name}' has no item '{name}'")
    return figure.items


def _chosen_targets(one: ImageMaps, figure: ConceptSheet) -> list[int]:
    if figure.targets is not None:
        return [one.target(text) for text in figure.targets]
    found = [n for n, text in enumerate(one.targets) if Target.parse(text).kind == "map"]
    if not found:
        raise InputError(
            f"explanation '{one.name}' has no x-features among its targets: explain "
            "layer:xnn.contributions of an explanation network"
        )
    return found
