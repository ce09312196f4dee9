"""Models of the folds of a cross-validation, which explain the items that they held out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.storage.files import replace_folder

# Imported for types only, since torch takes a second.
if TYPE_CHECKING:
    from preddiff.classifiers.linear import LinearClassifier
    from preddiff.classifiers.network import Network

    Model = TypeVar("Model", LinearClassifier, Network)


class SeesByModel(Protocol):
    """A classifier that may see items by models of their own."""

    def model_of(self, item: str) -> Self:
        """Return the model that an item is seen by: itself, unless the item has one of its own."""
        ...


Seeing = TypeVar("Seeing", bound=SeesByModel)

# Key of the provenance of results, if items are explained by models that have not seen them.
HELD_OUT = "held_out"
FOLDS = "folds"
# Within that folder.
ITEMS = "items.json"


def save_folds(folder: Path, models: "Sequence[Model]", fold_of: Mapping[str, int]) -> None:
    """Write the model of each fold beside a classifier.

    Parameters
    ----------
    folder : Path
        Folder of the classifier.
    models : sequence of LinearClassifier or Network
        By fold.
    fold_of : mapping of str to int
        By name of each training item: the fold in which it was held out.
    """
    with replace_folder(folder / FOLDS) as temporary:
        for number, model in enumerate(models):
            model.save(temporary / str(number))
        (temporary / ITEMS).write_text(json.dumps(dict(fold_of), indent=2) + "\n")


def held_out(classifier: "Model", folder: Path, items: Items) -> "Model":
    """Return a classifier that sees each training item by the model that was trained without it.

    All others it sees by the model of all training items, which has not seen them either.

    Parameters
    ----------
    classifier : LinearClassifier or Network
        The model of all training items.
    folder : Path
        Its folder.
    items : Items
        The items that are explained.

    Raises
    ------
    InputError
        If the models of the folds are missing or damaged.
    """
    fold_of: dict[str, int] = read_folds(folder)
    models = {
        fold: type(classifier).load(folder / FOLDS / str(fold)).for_items(items)
        for fold in sorted({*fold_of.values()})
    }
    chosen = {name: models[fold_of[name]] for name in items.names if name in fold_of}
    return replace(classifier, models=chosen)


def read_folds(folder: Path) -> dict[str, int]:
    """Read the fold in which each training item was held out, by name.

    Parameters
    ----------
    folder : Path
        Folder of the classifier.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    path = folder / FOLDS / ITEMS
    try:
        return {str(k): int(v) for k, v in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, which held_out needs: an earlier version trained the "
            "classifier; train it again"
        ) from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); train the classifier again") from None


def by_model(classifier: Seeing, items: Sequence[str]) -> list[tuple[Seeing, list[int]]]:
    """Group items by the model of a classifier that they are seen by.

    Parameters
    ----------
    classifier : LinearClassifier or Network
    items : sequence of str
        Names.

    Returns
    -------
    list
        Each model, and the positions of its items in the order that they are given in.
    """
    models: dict[int, Seeing] = {}
    rows: dict[int, list[int]] = {}
    for row, item in enumerate(items):
        model = classifier.model_of(item)
        models[id(model)] = model
        rows.setdefault(id(model), []).append(row)
    return [(models[key], numbers) for key, numbers in rows.items()]
