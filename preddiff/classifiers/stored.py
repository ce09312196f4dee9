"""Stored classifiers: reading back whatever kind a folder holds."""

import json
from pathlib import Path
from typing import Protocol

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import KIND, Network
from preddiff.datasets.items import Items
from preddiff.errors import InputError


class Classifier(Protocol):
    """What all classifiers have in common.

    Attributes
    ----------
    classes : tuple of str
    training_size : int
        Number N of training instances, for the Laplace correction.
    space, corner : tuple of int
        Spatial shape of the input, and where it starts in the items.
    slab : tuple of slice
        The input within the items.
    digest : str
        Of everything that its output depends on.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def training_size(self) -> int: ...  # noqa: D102
    @property
    def space(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def corner(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def slab(self) -> tuple[slice, ...]: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    def class_number(self, label: str) -> int: ...  # noqa: D102


def require_fit(items: Items, classifier: LinearClassifier | Network) -> None:
    """Refuse items of another shape than a network's input; a slab is cut out of any volume.

    Raises
    ------
    InputError
    """
    if isinstance(classifier, LinearClassifier):
        return
    if (items.channels, *items.space) != (classifier.channels, *classifier.space):
        raise InputError(
            f"{items.path} holds items of {items.channels} x {' x '.join(map(str, items.space))}, "
            f"the network takes {classifier.channels} x {' x '.join(map(str, classifier.space))}"
        )


def load_classifier(folder: Path) -> LinearClassifier | Network:
    """Read a stored classifier.

    Raises
    ------
    InputError
        If files are missing or damaged.
    """
    path = folder / "classifier.json"
    try:
        kind = json.loads(path.read_text())["kind"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the classifier first") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not a stored classifier, or damaged ({error})") from None
    return Network.load(folder) if kind == KIND else LinearClassifier.load(folder)
