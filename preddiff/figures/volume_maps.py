"""Maps of volumes for figures: relevance on the grid of the scans, read from relevance stores."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from preddiff.classifiers.held_out import HELD_OUT, held_out
from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.figures.base import FigureSettings
from preddiff.settings.base import ItemName
from preddiff.storage.inputs import Inputs
from preddiff.storage.maps import open_relevance
from preddiff.storage.relevance import window_side
from preddiff.storage.stores import PROVENANCE, open_dataset
from preddiff.targets import Kind, Target

# Labels of scales, by what is explained.
_WEIGHT_OF_EVIDENCE = "relevance: weight of evidence [bits]"
_DIFFERENCE = "relevance: difference of {}"


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
        self.classifier = LinearClassifier.load(inputs.classifier).for_items(self.items)
        if self.dataset.attrs[PROVENANCE].get(HELD_OUT, False):
            self.classifier = held_out(self.classifier, inputs.classifier, self.items)
        self.names = [str(name) for name in self.dataset["item"].values]
        self.k = window_side(self.dataset.attrs)
        spans = [n - m for n, m in zip(self.items.space, self.classifier.space, strict=True)]
        self.axis = int(np.argmax(spans))

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

    @property
    def scale_label(self) -> str:
        """What the relevance for the first target is, and its unit if it has one."""
        if self.k is None:
            # Attributions are not evidence in bits.
            return "relevance"
        if self.target.kind == "probability":
            return _WEIGHT_OF_EVIDENCE
        if not self.classifier.has_probabilities:
            return _DIFFERENCE.format(self._value)
        return _DIFFERENCE.format("logits" if self._has_more_classes else "log-odds")

    @property
    def target(self) -> Target:
        """The first target, which figures show."""
        return Target.parse(str(self.dataset["target"].values[0]))

    @property
    def shown(self) -> str:
        """The class, or the value, whose prediction figures state.

        Of two classes with probabilities it is the second, whichever is explained.
        """
        if self.classifier.has_probabilities and not self._has_more_classes:
            return self.classifier.classes[-1]
        return self.target.label

    @property
    def _has_more_classes(self) -> bool:
        return len(self.classifier.classes) > 2

    @property
    def _value(self) -> str:
        """What a classifier without probabilities puts out for the first target."""
        label = self.target.label
        return f"decision value, {label}" if len(self.classifier.classes) > 1 else label

    def weights(self) -> NDArray[np.float32]:
        """Return the weights of the first target's output, NaN outside the slab.

        Those of several channels are added, as windows contain all channels.
        Of two classes these are those of the second, whichever is explained.
        """
        number, _ = self.classifier.output_of(self.target.label)
        return self.on_grid(self.classifier.maps[number].sum(axis=0))

    def on_grid(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Embed the values of the slab in a volume that is NaN elsewhere."""
        volume = np.full(self.items.space, np.nan, dtype=np.float32)
        volume[self.classifier.slab] = values
        return volume

    def prediction(self, name: str) -> float:
        """Compute the probability, or the value, of what figures show for an item."""
        x = self.items.read([self.items.number(name)], self.classifier.slab)
        outputs = self.classifier.outputs(x, [name])
        kind: Kind = "probability" if self.classifier.has_probabilities else "value"
        return float(self.classifier.value(Target(kind, self.shown), outputs)[0])

    def of_group(self, group: str) -> list[str]:
        """List the explained items of a class."""
        return [n for n in self.names if self.items.groups[self.items.number(n)] == group]

    def label(self, name: str) -> str:
        """Return the name, class and prediction of an item."""
        group = self.items.groups[self.items.number(name)]
        about = f"{name} ({group})" if group else name
        if not self.classifier.has_probabilities:
            predicted = "" if len(self.classifier.classes) > 1 else "predicted "
            return f"{about}\n{predicted}{self._value}: {self.prediction(name):.3g}"
        return f"{about}\np({self.shown}) = {self.prediction(name):.2f}"

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
    candidates = [n for n in one.of_group(one.shown) if n in shared]
    return max(candidates or sorted(shared), key=one.prediction)
