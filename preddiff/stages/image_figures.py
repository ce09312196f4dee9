"""Stage image-figure: pick images, targets and maps from relevance stores, and draw."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.predictions import TOP, read_predictions
from preddiff.figures.images import Panel, Row, draw_panels
from preddiff.figures.overlay import save
from preddiff.settings.study import ImageFigureSettings
from preddiff.storage.inputs import Inputs
from preddiff.storage.stores import PROVENANCE, open_dataset
from preddiff.targets import Target

# Feature maps of each layer that a figure shows unless targets are named.
_MAPS_PER_LAYER = 3
_CLASSES = 3


def draw_images(stores: Sequence[Path], figure: ImageFigureSettings, out: Path) -> None:
    """Draw a figure after the paper's figures 1, 3 to 8 and 13; writes PNG and PDF.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores; they know their images and predictions.
    figure : ImageFigureSettings
    out : Path
        With the suffix .png; the PDF is written beside it.

    Raises
    ------
    InputError
        If an item or a target is not in the stores.
    """
    maps = [_Maps(path) for path in stores]
    names = _items(maps, figure)
    rows = _ROWS[figure.kind](maps, names, figure)
    save(draw_panels(rows, threshold=figure.threshold, colormap=figure.colormap), out)


class _Maps:
    """The maps of one relevance store, with the images and predictions that belong to them."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.dataset: xr.Dataset = open_dataset(path)
        about = self.dataset.attrs
        inputs = Inputs.of(path, about)
        self.data = Items(inputs.data)
        self.classes: list[str] = about["classes"]
        self.k = int(about["k"])
        self.method = str(about[PROVENANCE].get("method", "prediction-difference"))
        self.predictions: pd.DataFrame | None = (
            None if inputs.predictions is None else read_predictions(inputs.predictions)
        )
        self.items = [str(name) for name in self.dataset["item"].values]
        self.targets = [str(name) for name in self.dataset["target"].values]

    def target(self, text: str) -> int:
        """Place of a target in the store."""
        if text not in self.targets:
            raise InputError(
                f"explanation '{self.name}' has no target '{text}'; it has "
                f"{', '.join(self.targets[:6])}{', ...' if len(self.targets) > 6 else ''}"
            )
        return self.targets.index(text)

    def image(self, item: str) -> NDArray[np.float32]:
        """Pixels (channels, height, width) of an item."""
        return self.data.read([self.data.number(item)])[0]

    def panel(self, item: str, target: int, title: str | None = None) -> Panel:
        """The map of a target for an item, over the image."""
        row = self.items.index(item)
        node = Target.parse(self.targets[target])
        values = self.dataset["relevance"][row, target].values
        sensitive = self.method == "sensitivity"
        return Panel(
            self.image(item),
            values,
            "sensitivity" if sensitive else "relevance",
            title if title is not None else self.describe(item, target),
            unit=node.unit,
        )

    def describe(self, item: str, target: int) -> str:
        """What a target is for an item: its class, rank and probability, or its map."""
        node = Target.parse(self.targets[target])
        if node.kind == "map":
            return f"{node.layer}, map {node.number}"
        row = self.items.index(item)
        number = int(self.dataset["class_number"][row, target])
        value = float(self.dataset["prediction"][row, target])
        shown = f"p = {value:.3g}" if node.kind == "probability" else f"logit {value:.1f}"
        rank = self.rank(item, number)
        return f"{self._class(number)}\n{rank}{shown}"

    def rank(self, item: str, number: int) -> str:
        """Rank of a class among an item's predictions, as "rank 1, "; empty if not known."""
        if self.predictions is None or item not in self.predictions.index:
            return ""
        columns = [f"top{n}" for n in range(1, TOP + 1) if f"top{n}" in self.predictions]
        top = [int(n) for n in np.asarray(self.predictions.loc[item, columns])]
        return f"rank {top.index(number) + 1}, " if number in top else f"rank over {len(top)}, "

    def truth(self, item: str) -> str:
        """Name of an item and its true class, where that is known."""
        name = shorten_name(item)
        if self.predictions is None or item not in self.predictions.index:
            return name
        found = str(self.predictions.loc[item, "name"])
        return f"{name}\n({shorten(found, 28)})" if found else name

    def _class(self, number: int) -> str:
        return shorten(self.classes[number], 28)


def shorten_name(item: str) -> str:
    """The last part of an item's name, without suffix, for a label."""
    return shorten(Path(item).stem.replace("_", " "), 24, placeholder="...")


def _items(maps: Sequence[_Maps], figure: ImageFigureSettings) -> list[str]:
    shared = [name for name in maps[0].items if all(name in one.items for one in maps[1:])]
    if isinstance(figure.items, int):
        if not shared:
            raise InputError("the explanations of the figure share no item")
        return shared[: figure.items]
    for name in figure.items:
        if name not in shared:
            raise InputError(f"no explanation of item '{name}' in each of the figure's stores")
    return figure.items


def _image(one: _Maps, item: str) -> Panel:
    return Panel(one.image(item), title="image")


def _sensitivity(
    maps: Sequence[_Maps], names: Sequence[str], figure: ImageFigureSettings
) -> list[Row]:
    """Image, sensitivity map and relevance, a row for each image (figures 1 and 13)."""
    gradient = next((one for one in maps if one.method == "sensitivity"), None)
    other = next((one for one in maps if one.method != "sensitivity"), None)
    if gradient is None or other is None:
        raise InputError(
            "a sensitivity figure needs two stores: of sensitivity maps, and of relevance"
        )
    chosen = figure.targets or [other.targets[0]]
    return [
        Row(
            other.truth(name),
            [
                _image(other, name),
                gradient.panel(name, 0, f"sensitivity map\n{gradient.describe(name, 0)}"),
                *(other.panel(name, other.target(text)) for text in chosen),
            ],
        )
        for name in names
    ]


def _compare(maps: Sequence[_Maps], names: Sequence[str], figure: ImageFigureSettings) -> list[Row]:
    """Image and the maps of several explanations, a row for each image (figures 3, 4 and 8)."""
    rows = []
    for name in names:
        panels = [_image(maps[0], name)]
        for one in maps:
            targets = figure.targets or [one.targets[0]]
            panels += [
                one.panel(
                    name,
                    one.target(text),
                    f"{one.name} (k = {one.k})\n{one.describe(name, one.target(text))}",
                )
                for text in targets
            ]
        rows.append(Row(maps[0].truth(name), panels))
    return rows


def _feature_maps(
    maps: Sequence[_Maps], names: Sequence[str], figure: ImageFigureSettings
) -> list[Row]:
    """Feature maps: a row for each image and layer (figures 5 and 6)."""
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
            f"{one.truth(name)}\n{layer}",
            [_image(one, name), *(one.panel(name, number) for number in found)],
        )
        for name in names
        for layer, found in layers.items()
    ]


def _classes(maps: Sequence[_Maps], names: Sequence[str], figure: ImageFigureSettings) -> list[Row]:
    """The top classes at the penultimate layer and at the output (figure 7)."""
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
            f"{one.truth(name)}\n{label}",
            [_image(one, name), *(one.panel(name, one.target(text)) for text in texts)],
        )
        for name in names
        for label, texts in wanted.items()
        if texts
    ]


_ROWS = {
    "sensitivity": _sensitivity,
    "compare": _compare,
    "maps": _feature_maps,
    "classes": _classes,
}
