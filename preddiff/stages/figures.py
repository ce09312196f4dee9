"""Stage figures: pick items, maps and slices from the stores, and draw."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.figures import volumes
from preddiff.figures.overlay import save
from preddiff.settings.study import FigureSettings
from preddiff.storage.stores import open_dataset

# The paper shows more of the smallest windows' maps: 10% of the maximum for k = 2.
_THRESHOLD_SMALL_WINDOWS = 0.10


def draw(
    stores: Sequence[Path], classifier_folder: Path, data: Path, figure: FigureSettings, out: Path
) -> None:
    """Draw a figure after the paper's figures 9 to 12; writes PNG and PDF.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores: one, or several for patch sizes.
    classifier_folder, data : Path
    figure : Figure
        Settings: what to draw and how.
    out : Path
        With the suffix .png; the PDF is written beside it.

    Raises
    ------
    InputError
        If an item or a slice is not in the stores.
    """
    maps = [Maps(path, classifier_folder, data) for path in stores]
    for slice_ in figure.slices if figure.kind != "slices" else []:
        maps[0].check_slice(slice_)
    save(_DRAW[figure.kind](maps, figure), out)


class Maps:
    """The relevance of one store on the grid of its items' volumes."""

    def __init__(self, path: Path, classifier_folder: Path, data: Path) -> None:
        self.path = path
        self.dataset: xr.Dataset = open_dataset(path)
        self.items = Items(data)
        self.classifier = LinearClassifier.load(classifier_folder)
        self.names = [str(name) for name in self.dataset["item"].values]
        self.k = int(self.dataset.attrs["k"])
        spans = [n - m for n, m in zip(self.items.space, self.classifier.space, strict=True)]
        self.axis = int(np.argmax(spans))

    def check_slice(self, number: int) -> None:
        """Refuse a slice outside the slab."""
        part = self.classifier.slab[self.axis]
        if not part.start <= number < part.stop:
            raise InputError(
                f"slice {number} lies outside the classifier's slab, "
                f"slices {part.start} to {part.stop - 1} of axis {self.axis}"
            )

    def volume(self, name: str) -> NDArray[np.float32]:
        """An item's whole volume."""
        return self.items.read([self.items.number(name)])[0, 0]

    def relevance(self, name: str) -> NDArray[np.float32]:
        """An item's relevance for the first target, NaN outside the slab."""
        return self.on_grid(self.dataset["relevance"][self._row(name), 0].values)

    def weights(self) -> NDArray[np.float32]:
        """The classifier's weights, NaN outside the slab."""
        return self.on_grid(self.classifier.weights[0])

    def on_grid(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Put a slab's values on the volumes' grid."""
        volume = np.full(self.items.space, np.nan, dtype=np.float32)
        volume[self.classifier.slab] = values
        return volume

    def probability(self, name: str) -> float:
        """Predicted probability of the second class."""
        number = self.items.number(name)
        return float(
            self.classifier.probability(self.items.read([number], self.classifier.slab))[0]
        )

    def of_group(self, group: str) -> list[str]:
        """Names of the explained items of a class."""
        return [n for n in self.names if self.items.groups[self.items.number(n)] == group]

    def label(self, name: str) -> str:
        """Name, class and prediction of an item."""
        group = self.items.groups[self.items.number(name)]
        return f"{name} ({group})\np({self.classifier.classes[1]}) = {self.probability(name):.2f}"

    def _row(self, name: str) -> int:
        if name not in self.names:
            raise InputError(f"{self.path} has no item '{name}'")
        return self.names.index(name)


def _item(maps: Sequence[Maps], figure: FigureSettings) -> str:
    """Item to show: the one named, or that of the second class that is predicted surest."""
    if figure.item is not None:
        return figure.item
    one = maps[0]
    shared = set(one.names).intersection(*(other.names for other in maps))
    candidates = [n for n in one.of_group(one.classifier.classes[1]) if n in shared]
    return max(candidates or sorted(shared), key=one.probability)


def _weights(maps: Sequence[Maps], figure: FigureSettings) -> Picture:
    one = maps[0]
    name = _item(maps, figure)
    return volumes.relevance_against_weights(
        one.volume(name),
        one.relevance(name),
        one.weights(),
        one.items.affine,
        slices=tuple(figure.slices),
        axis=one.axis,
        threshold=figure.threshold,
        colormap=figure.colormap,
        title=one.label(name).replace("\n", ", "),
    )


def _subjects(maps: Sequence[Maps], figure: FigureSettings) -> Picture:
    one = maps[0]
    chosen = [one.of_group(label)[: figure.per_class] for label in one.classifier.classes]
    names = [name for group in chosen for name in group]
    return volumes.subjects(
        [one.volume(name) for name in names],
        [one.relevance(name) for name in names],
        [one.label(name) for name in names],
        one.items.affine,
        columns=figure.per_class,
        number=figure.slices[-1],
        axis=one.axis,
        threshold=figure.threshold,
        colormap=figure.colormap,
    )


def _slices(maps: Sequence[Maps], figure: FigureSettings) -> Picture:
    one = maps[0]
    name = _item(maps, figure)
    return volumes.other_slices(
        one.volume(name),
        one.relevance(name),
        one.items.affine,
        axis=one.axis,
        threshold=figure.threshold,
        colormap=figure.colormap,
        title=one.label(name).replace("\n", ", "),
    )


def _patch_sizes(maps: Sequence[Maps], figure: FigureSettings) -> Picture:
    name = _item(maps, figure)
    thresholds = [
        min(figure.threshold, _THRESHOLD_SMALL_WINDOWS) if one.k <= 2 else figure.threshold
        for one in maps
    ]
    return volumes.patch_sizes(
        maps[0].volume(name),
        {f"{one.path.stem} (k = {one.k})": one.relevance(name) for one in maps},
        thresholds,
        maps[0].items.affine,
        slices=tuple(figure.slices),
        axis=maps[0].axis,
        colormap=figure.colormap,
        title=maps[0].label(name).replace("\n", ", "),
    )


_DRAW = {
    "weights": _weights,
    "subjects": _subjects,
    "slices": _slices,
    "patch-sizes": _patch_sizes,
}
