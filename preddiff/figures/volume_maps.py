"""Maps of volumes for figures: relevance on the grid of the scans, read from relevance stores."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.figures.base import FigureSettings, titled, window_side
from preddiff.settings.base import ItemName
from preddiff.storage.inputs import Inputs
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import open_dataset
from preddiff.targets import Target

# What maps of prediction difference analysis show, by the kind of target.
_QUANTITIES = {
    "probability": "relevance: weight of evidence [bits]",
    "logit": "relevance: activation difference [logits]",
}


class VolumeFigureSettings(FigureSettings):
    """A figure of volumes, similar to those of the paper."""

    dimensions: ClassVar[int] = 3


class OneSubject(FigureSettings):
    """Settings of figures that show one subject."""

    item: ItemName | None = Field(
        None,
        description="subject to show; default: of the second class, the subject with the highest "
        "predicted probability",
    )


class Slices(FigureSettings):
    """Settings of figures that show selected slices."""

    slices: list[int] | None = Field(
        None,
        description="slices to show, along the classifier's axis; default: the first and last "
        "slice of the classifier's input",
        min_length=1,
    )


class VolumeMaps:
    """The relevance of one store on the grid of its items' volumes.

    Parameters
    ----------
    path : Path
        Relevance store, which refers to its items and its classifier.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        open_relevance(path)
        self.dataset: xr.Dataset = open_dataset(path)
        inputs = Inputs.of(path, self.dataset.attrs)
        self.items = Items(inputs.data)
        self.classifier = LinearClassifier.load(inputs.classifier)
        self.names = [str(name) for name in self.dataset["item"].values]
        self.windows = window_side(self.dataset.attrs)
        spans = [n - m for n, m in zip(self.items.space, self.classifier.space, strict=True)]
        self.axis = int(np.argmax(spans))

    @property
    def title(self) -> str:
        """Name of the explanation, with the side of its windows if it has any."""
        return titled(self.path.stem, self.windows)

    @property
    def quantity(self) -> str:
        """What the maps of the first target show, and its unit if that is known."""
        if self.windows is None:
            return "relevance" if self.dataset.attrs.get("shows_evidence", True) else "magnitude"
        return _QUANTITIES[Target.parse(str(self.dataset["target"].values[0])).kind]

    def slices(self, chosen: Sequence[int] | None) -> list[int]:
        """Return the slices to show; by default, the first and last slice of the slab.

        Raises
        ------
        InputError
            If a slice is outside the slab.
        """
        part = self.classifier.slab[self.axis]
        for number in chosen or ():
            if not part.start <= number < part.stop:
                raise InputError(
                    f"slice {number} is outside the classifier's slab, "
                    f"slices {part.start} to {part.stop - 1} of axis {self.axis}"
                )
        return list(chosen or dict.fromkeys((part.start, part.stop - 1)))

    def volume(self, name: str) -> NDArray[np.float32]:
        """Read the whole volume of an item."""
        return self.items.read([self.items.number(name)])[0, 0]

    def relevance(self, name: str) -> NDArray[np.float32]:
        """Read the relevance of an item for the first target, NaN outside the slab."""
        return self.on_grid(self.dataset["relevance"][self._row(name), 0].values)

    def weights(self) -> NDArray[np.float32]:
        """Return the classifier's weights, NaN outside the slab."""
        return self.on_grid(self.classifier.weights[0])

    def on_grid(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Embed the values of the slab in a volume that is NaN elsewhere."""
        volume = np.full(self.items.space, np.nan, dtype=np.float32)
        volume[self.classifier.slab] = values
        return volume

    def probability(self, name: str) -> float:
        """Compute the predicted probability of the second class for an item."""
        number = self.items.number(name)
        return float(
            self.classifier.probability(self.items.read([number], self.classifier.slab))[0]
        )

    def of_group(self, group: str) -> list[str]:
        """List the explained items of a class."""
        return [n for n in self.names if self.items.groups[self.items.number(n)] == group]

    def label(self, name: str) -> str:
        """Return the name, class and prediction of an item."""
        group = self.items.groups[self.items.number(name)]
        return f"{name} ({group})\np({self.classifier.classes[1]}) = {self.probability(name):.2f}"

    def _row(self, name: str) -> int:
        if name not in self._rows:
            raise InputError(f"{self.path} has no item '{name}'")
        return self._rows[name]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}


def subject_of(maps: Sequence[VolumeMaps], item: str | None) -> str:
    """Return the item to show; by default, that of the second class with highest probability.

    Parameters
    ----------
    maps : sequence of VolumeMaps
    item : str, optional
    """
    if item is not None:
        return item
    one = maps[0]
    shared = set(one.names).intersection(*(other.names for other in maps))
    candidates = [n for n in one.of_group(one.classifier.classes[1]) if n in shared]
    return max(candidates or sorted(shared), key=one.probability)
