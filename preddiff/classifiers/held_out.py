"""Models of the folds of a cross-validation, which explain the items that they held out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.storage.files import replace_folder

# Key of the provenance of expectations, if items are explained by models that have not seen them.
HELD_OUT = "held_out"
FOLDS = "folds"
# Within that folder.
ITEMS = "items.json"


def save_folds(
    folder: Path, models: Sequence[LinearClassifier], fold_of: Mapping[str, int]
) -> None:
    """Write the model of each fold beside a classifier.

    Parameters
    ----------
    folder : Path
        Folder of the classifier.
    models : sequence of LinearClassifier
        By fold.
    fold_of : mapping of str to int
        By name of each training item: the fold in which it was held out.
    """
    with replace_folder(folder / FOLDS) as temporary:
        for number, model in enumerate(models):
            model.save(temporary / str(number), {})
        (temporary / ITEMS).write_text(json.dumps(dict(fold_of), indent=2) + "\n")


def held_out(classifier: LinearClassifier, folder: Path, items: Items) -> LinearClassifier:
    """Return a classifier that sees each training item by the model that was trained without it.

    All others it sees by the model of all training items, which has not seen them either.

    Parameters
    ----------
    classifier : LinearClassifier
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
    path = folder / FOLDS / ITEMS
    try:
        fold_of = {str(k): int(v) for k, v in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, which held_out needs: an earlier version trained the "
            "classifier; train it again"
        ) from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); train the classifier again") from None
    models = {
        fold: LinearClassifier.load(folder / FOLDS / str(fold)).for_items(items)
        for fold in sorted({*fold_of.values()})
    }
    chosen = {name: models[fold_of[name]] for name in items.names if name in fold_of}
    return replace(classifier, models=chosen)
