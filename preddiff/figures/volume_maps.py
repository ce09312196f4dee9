"""Maps of volumes for figures: relevance on the grid of the scans, read from relevance stores."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from preddiff.classifiers.stored import load_classifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.figures.base import FigureSettings
from preddiff.settings.base import ItemName
from preddiff.storage.inputs import Inputs
from preddiff.storage.maps import open_relevance
from preddiff.storage.relevance import window_side
from preddiff.storage.stores import open_dataset
from preddiff.targets import Target

# Labels of scales, by what is explained.
_LABELS = {
    "probability": "relevance: weight of evidence [bits]",
    "map": "relevance: difference of activation",
}


class VolumeFigureSettings(FigureSettings):
    """A figure of volumes, similar to those of the paper."""

    dimensions: ClassVar[int] = 3


class OneSubject(FigureSettings):
    """Settings of figures that show one subject."""

    item: ItemName | None = Field(
        None,
        description="subject to show; default: of the second of two classes, or the explained one, "
        "the subject with the highest predicted probability or value",
    )


class Slices(FigureSettings):
    """Settings of figures that show selected slices."""

    slices: list[int] | None = Field(
        None,
        description="slices to show, along the classifier's axis; default: the first and last "
        "slice of the classifier's input or, if that is the whole volume, those after one and two "
        "thirds of it",
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
        channels = open_dataset(inputs.data).get("channel")
        self._channel = "" if channels is None else str(channels.values[0])
        self._classifier = inputs.classifier
        self.names = [str(name) for name in self.dataset["item"].values]
        self.k = window_side(self.dataset.attrs)
        about = self.dataset.attrs
        self.classes: list[str] = about["classes"]
        self.slab = tuple(
            slice(c, c + n) for c, n in zip(about["corner"], about["space"], strict=True)
        )
        spans = [n - m for n, m in zip(self.items.space, about["space"], strict=True)]
        self.axis = int(np.argmax(spans))

    def slices(self, chosen: Sequence[int] | None) -> list[int]:
        """Return the slices to show; by default, the first and last slice of the slab.

        Of a whole volume, those after one and two thirds of its slices.

        Raises
        ------
        InputError
            If a slice is outside the slab.
        """
        part = self.slab[self.axis]
        for number in chosen or ():
            if not part.start <= number < part.stop:
                raise InputError(
                    f"slice {number} is outside the classifier's slab, "
                    f"slices {part.start} to {part.stop - 1} of axis {self.axis}"
                )
        if chosen is None and part.stop - part.start == self.items.space[self.axis]:
            # The outermost slices of a whole volume are empty.
            third = (part.stop - part.start) // 3
            return [third, part.stop - 1 - third]
        return list(chosen or dict.fromkeys((part.start, part.stop - 1)))

    def volume(self, name: str) -> NDArray[np.float32]:
        """Read the whole volume of an item, of several channels the first."""
        return self.items.read([self.items.number(name)])[0, 0]

    def relevance(self, name: str) -> NDArray[np.float32]:
        """Read the relevance of an item for the first target, NaN outside the slab."""
        return self.on_grid(self.dataset["relevance"][self._row(name), 0].values)

    @property
    def scale_label(self) -> str:
        """What the relevance for the first target is, and its unit if it has one."""
        if self.k is None:
            # Attributions are not evidence in bits.
            return "relevance"
        if self.target.kind == "logit":
            return f"relevance: difference of {'log-odds' if len(self.classes) == 2 else 'logits'}"
        return _LABELS.get(self.target.kind) or f"relevance: difference of {self._value}"

    @property
    def target(self) -> Target:
        """The first target, which figures show."""
        return Target.parse(str(self.dataset["target"].values[0]))

    @property
    def _value(self) -> str:
        """What a classifier without probabilities puts out for the first target."""
        label = self.target.label
        return f"decision value, {label}" if len(self.classes) > 1 else label

    def weights(self) -> NDArray[np.float32]:
        """Return the weights of the first target's output, NaN outside the slab.

        Those of several channels are added, as windows contain all channels.
        Of two classes these are those of the second, whichever is explained.

        Raises
        ------
        InputError
            If the classifier is not linear.
        """
        weights = load_classifier(self._classifier).weights_of(self.target.label)
        if weights is None:
            raise InputError(
                f"{self.path}: the classifier is not linear, so it has no weights to show; choose "
                "another kind of figure"
            )
        return self.on_grid(weights)

    def on_grid(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Embed the values of the slab in a volume that is NaN elsewhere."""
        volume = np.full(self.items.space, np.nan, dtype=np.float32)
        volume[self.slab] = values
        return volume

    def prediction(self, name: str) -> float:
        """Return the value of the first target for an item: a probability, a logit, an age, ..."""
        return float(self.dataset["prediction"][self._row(name), 0])

    def of_group(self, group: str) -> list[str]:
        """List the explained items of a class."""
        return [n for n in self.names if self.items.groups[self.items.number(n)] == group]

    def label(self, name: str) -> str:
        """Return the name, class and prediction of an item; and which channel is shown."""
        group = self.items.groups[self.items.number(name)]
        target, value = self.target, self.prediction(name)
        if target.kind == "map":
            shown = f"{target.layer}, map {target.number}"
        else:
            label = self.classes[int(self.dataset["class_number"][self._row(name), 0])]
            predicted = "" if len(self.classes) > 1 else "predicted "
            shown = {
                "probability": f"p({label}) = {value:.2f}",
                "logit": f"logit({label}) = {value:.1f}",
                "value": f"{predicted}{self._value}: {value:.3g}",
            }[target.kind]
        about = [text for text in (group, self._channel) if text]
        return f"{name} ({', '.join(about)})\n{shown}" if about else f"{name}\n{shown}"

    def _row(self, name: str) -> int:
        if name not in self._rows:
            raise InputError(f"{self.path} has no item '{name}'")
        return self._rows[name]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}


def subject_of(maps: Sequence[VolumeMaps], item: str | None) -> str:
    """Return the item to show; by default, that of the shown class with the highest prediction.

    Parameters
    ----------
    maps : sequence of VolumeMaps
    item : str, optional
    """
    if item is not None:
        return item
    one = maps[0]
    shared = set(one.names).intersection(*(other.names for other in maps))
    last = one.items.classes[-1] if one.items.classes else ""
    explained = one.target.label if one.target.label in one.items.classes else last
    candidates = [n for n in one.of_group(explained) if n in shared]
    return max(candidates or sorted(shared), key=one.prediction)
