"""Concept sheets: the items that say most about each x-feature (after Qi, Khorram, Li 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from preddiff.errors import InputError
from preddiff.figures.base import FIGURES, FigureSettings
from preddiff.figures.image_maps import ImageMaps, shorten_name
from preddiff.figures.panels import Panel, Row, draw_panels
from preddiff.settings.base import ItemName, Positive
from preddiff.targets import LAYER, Target

if TYPE_CHECKING:
    from preddiff.methods.base import MethodSettings

_FOR, _AGAINST = "firebrick", "royalblue"


@FIGURES.register
class ConceptSheet(FigureSettings):
    """The items that each x-feature contributes most to, with its maps for them."""

    dimensions: ClassVar[int] = 2

    kind: Literal["concepts"] = Field(description="concepts")
    items: list[ItemName] | Positive | None = Field(
        None,
        description="images to choose from: names, or N for the first N; default: all that are "
        "explained. Contributions to a class are shown for the images that are taken for it",
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

    def problem_with(self, explanations: "Sequence[MethodSettings]") -> str | None:
        """Require an explanation of units of a layer."""
        several = super().problem_with(explanations)
        if several is not None:
            return several
        targets = explanations[0].targets or [explanations[0].default_target]
        if not any(text.partition(":")[0] in (LAYER, "map") for text in targets):
            return "give an explanation with targets such as layer:xnn.contributions"
        return None

    def draw(self, maps: Sequence[ImageMaps]) -> Figure:
        """Draw images, and maps below them, in two rows per x-feature."""
        one = maps[0]
        features = features_of(one, self)
        shown = features[: self.rows]
        rows = [row for feature in shown for row in _rows(one, feature, self.columns)]
        title = f"{one.name}: contributions, and where they come from"
        if len(shown) < len(features):
            title += f" (the first {len(shown)} of {len(features)} x-features)"
        return draw_panels(rows, threshold=self.threshold, colormap=self.colormap, title=title)


@dataclass(frozen=True)
class Feature:
    """An x-feature and its contributions to the items of a sheet.

    Attributes
    ----------
    target : int
        Position of the target in the store.
    items : list of str
    values : array (items,)
    """

    target: int
    items: list[str]
    values: NDArray[np.floating]

    @property
    def mean(self) -> float:
        """Mean contribution over the items."""
        return float(self.values.mean())


def features_of(one: ImageMaps, figure: ConceptSheet) -> list[Feature]:
    """Return the x-features in the order of their mean contributions, largest first.

    Those without any contribution to the items are left out.

    Raises
    ------
    InputError
        If the store has no such item or target, or all contributions are 0.
    """
    items = _chosen_items(one, figure)
    predictions = one.dataset["prediction"].values
    found = []
    for target in _chosen_targets(one, figure):
        number = one.unit(target).class_number
        of_class = one.items if number is None else one.items_of_class(number)
        chosen = [item for item in items if item in of_class]
        values = predictions[[one.items.index(item) for item in chosen], target]
        if values.any():
            found.append(Feature(target, chosen, values))
    if not found:
        raise InputError(
            f"explanation '{one.name}': nothing contributes to the chosen items; choose others"
        )
    return sorted(found, key=lambda feature: -feature.mean)


def _rows(one: ImageMaps, feature: Feature, columns: int) -> list[Row]:
    """Rows of the items with the largest magnitudes, if not 0: their images, and their maps."""
    largest = np.argsort(-np.abs(feature.values), kind="stable")[:columns]
    images, maps = [], []
    for number in largest:
        value, item = float(feature.values[number]), feature.items[number]
        if value == 0:
            break
        colour = _FOR if value > 0 else _AGAINST
        panel = one.panel(item, feature.target, f"{value:+.3g}")
        images.append(Panel(panel.image, title=shorten_name(item)))
        shows = panel.shows if one.shows_evidence else "overlay"
        maps.append(replace(panel, shows=shows, title_colour=colour))
    unit = one.unit(feature.target)
    class_name = "" if unit.class_number is None else f"\nfor {one.class_name(unit.class_number)}"
    count = len(feature.items)
    return [
        Row(f"{unit.name}{class_name}", images),
        Row(f"mean {feature.mean:+.3g}\nover {count} image{'s' * (count > 1)}", maps),
    ]


def _chosen_items(one: ImageMaps, figure: ConceptSheet) -> list[str]:
    if figure.items is None or isinstance(figure.items, int):
        return one.items[: figure.items]
    for name in figure.items:
        if name not in one.items:
            raise InputError(f"explanation '{one.name}' has no item '{name}'")
    return figure.items


def _chosen_targets(one: ImageMaps, figure: ConceptSheet) -> list[int]:
    if figure.targets is not None:
        found = [one.target(text) for text in figure.targets]
    else:
        found = list(range(len(one.targets)))
    kept = [number for number in found if Target.parse(one.targets[number]).kind == "map"]
    if not kept or (figure.targets is not None and len(kept) < len(found)):
        raise InputError(
            f"explanation '{one.name}': a concept sheet shows units of a layer, such as "
            "layer:xnn.contributions of an explanation network; explain these"
        )
    return kept
