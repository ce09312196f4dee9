"""Maps of images for figures: relevance over images, read from relevance stores."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from preddiff.classifiers.base import Unit
from preddiff.classifiers.stored import unit_of
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.predictions import TOP, read_predictions
from preddiff.figures.base import FigureSettings
from preddiff.figures.panels import Panel
from preddiff.settings.base import ItemName, Positive
from preddiff.storage.inputs import Inputs
from preddiff.storage.maps import open_relevance
from preddiff.storage.relevance import window_side
from preddiff.storage.stores import PROVENANCE, open_dataset
from preddiff.targets import Target


class ImageFigureSettings(FigureSettings):
    """A figure of images, similar to those of the paper."""

    dimensions: ClassVar[int] = 2

    items: list[ItemName] | Positive = Field(
        3, description="names of the images to show, or N for the first N"
    )
    targets: list[str] | None = Field(
        None,
        description="targets to show, by their names in the store; default: the first target of "
        "each explanation; for kind maps, the first three maps of each layer; for kind classes, "
        "the top three classes",
        min_length=1,
    )


class ImageMaps:
    """The maps of one relevance store, with their images and predictions."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        open_relevance(path)
        self.dataset: xr.Dataset = open_dataset(path)
        about = self.dataset.attrs
        inputs = Inputs.of(path, about)
        self.data = Items(inputs.data)
        self._classifier = inputs.classifier
        self.classes: list[str] = about["classes"]
        self.k = window_side(about)
        # Stores of version 0.1.0 do not say; those of a method were of sensitivity maps.
        self.shows_evidence = bool(about.get("shows_evidence", "method" not in about[PROVENANCE]))
        self.predictions: pd.DataFrame | None = (
            None if inputs.predictions is None else read_predictions(inputs.predictions)
        )
        self.items = [str(name) for name in self.dataset["item"].values]
        self.targets = [str(name) for name in self.dataset["target"].values]

    def target(self, text: str) -> int:
        """Return the position of a target in the store."""
        if text not in self.targets:
            raise InputError(
                f"explanation '{self.name}' has no target '{text}'; it has "
                f"{', '.join(self.targets[:6])}{', ...' if len(self.targets) > 6 else ''}"
            )
        return self.targets.index(text)

    def image(self, item: str) -> NDArray[np.float32]:
        """Read the pixels (channels, height, width) of an item."""
        return self.data.read([self.data.number(item)])[0]

    def panel(self, item: str, target: int, title: str | None = None) -> Panel:
        """Return a panel with the map of a target over the image of an item."""
        row = self.items.index(item)
        node = Target.parse(self.targets[target])
        values = self.dataset["relevance"][row, target].values
        return Panel(
            self.image(item),
            values,
            "relevance" if self.shows_evidence else "magnitude",
            title if title is not None else self.describe(item, target),
            # Attributions and masks are not evidence in bits.
            unit="" if self.k is None else node.unit,
            clipped=self.k is None,
        )

    def describe(self, item: str, target: int) -> str:
        """Describe a target for an item: class, rank and probability, or layer and map."""
        node = Target.parse(self.targets[target])
        if node.kind == "map":
            return f"{node.layer}, map {node.number}"
        row = self.items.index(item)
        number = int(self.dataset["class_number"][row, target])
        value = float(self.dataset["prediction"][row, target])
        shown = {"probability": f"p = {value:.3g}", "value": f"{value:.4g}"}.get(
            node.kind, f"logit {value:.1f}"
        )
        rank = self.rank(item, number)
        return f"{self.class_name(number)}\n{rank}{shown}"

    def unit(self, target: int) -> Unit:
        """Return what the unit that a target names stands for; by default, its layer and number."""
        node = Target.parse(self.targets[target])
        known = unit_of(self._classifier, node.layer, node.number)
        return known or Unit(f"{node.layer}, map {node.number}")

    def items_of_class(self, number: int) -> list[str]:
        """List the explained items that the classifier takes for a class; all if unknown."""
        if self.predictions is None:
            return self.items
        top = self.predictions["top1"]
        return [item for item in self.items if int(top.loc[item]) == number]

    def rank(self, item: str, number: int) -> str:
        """Return the rank of a class among an item's predictions, as "rank 1, "; "" if unknown."""
        if self.predictions is None or item not in self.predictions.index:
            return ""
        columns = [f"top{n}" for n in range(1, TOP + 1) if f"top{n}" in self.predictions]
        top = [int(n) for n in np.asarray(self.predictions.loc[item, columns])]
        return f"rank {top.index(number) + 1}, " if number in top else f"rank over {len(top)}, "

    def row_label(self, item: str) -> str:
        """Return the name of an item, with its true class if that is known."""
        name = shorten_name(item)
        if self.predictions is None or item not in self.predictions.index:
            return name
        found = str(self.predictions.loc[item, "name"])
        return f"{name}\n({shorten(found, 28)})" if found else name

    def class_name(self, number: int) -> str:
        """Return the name of a class, shortened for labels."""
        return shorten(self.classes[number], 28)


def shorten_name(item: str) -> str:
    """Shorten the name of an item to its last part without suffix, for labels."""
    return shorten(Path(item).stem.replace("_", " "), 24, placeholder="...")


def chosen_items(maps: Sequence[ImageMaps], figure: ImageFigureSettings) -> list[str]:
    """Select the images to show, by name.

    Raises
    ------
    InputError
        If the explanations have no item in common, or a named item is missing from one of them.
    """
    others = [set(one.items) for one in maps[1:]]
    shared = [name for name in maps[0].items if all(name in other for other in others)]
    if isinstance(figure.items, int):
        if not shared:
            raise InputError("the explanations of the figure have no item in common")
        return shared[: figure.items]
    for name in figure.items:
        if name not in shared:
            raise InputError(f"item '{name}' is not in all explanations of the figure")
    return figure.items


def image_panel(one: ImageMaps, item: str) -> Panel:
    """Return a panel with the image of an item."""
    return Panel(one.image(item), title="image")
