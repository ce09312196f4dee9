"""Whether nuisance variables can be regressed out: what the subjects of a training must tell."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from preddiff.classifiers.linear_training import LinearSettings, smallest_part, splits
from preddiff.classifiers.nuisance import columns_of
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.windows import FloatArray, IntArray

# Columns are scaled to magnitudes up to 1; deviations and singular values below this are rounding.
_ROUNDING = 1e-8


def require_regressable(
    settings: LinearSettings,
    items: Items,
    y: IntArray | FloatArray,
    classes: Sequence[str],
    seed: int,
) -> None:
    """Check that the nuisance variables of a training can be regressed out.

    What trains a fold must tell their effects on those that it holds out, and what trains the model
    of all their effects on the other items. Inner folds, which only choose the penalty, may lack
    values.

    Parameters
    ----------
    settings : LinearSettings
    items : Items
    y : int64 or float64 array (n,)
        Of each training item: number of its class, or its value.
    classes : sequence of str
        Names of the classes, or of the value.
    seed : int
        Random seed of the folds.

    Raises
    ------
    InputError
        If residuals would all be 0, if they would tell nothing about what is predicted, or if an
        item has a value that those which train its model lack.
    """
    if not settings.regress_out:
        return
    names, design = columns_of(settings.regress_out, items)
    fewest = smallest_part(settings, y, seed)
    if len(names) >= fewest - 1:
        raise InputError(
            f"regress_out: {len(names)} columns of nuisance variables ({_shortened(names)}) leave "
            f"nothing of the voxels of the {fewest} subjects that train a fold, or choose its "
            "penalty: regress out fewer variables, or merge values"
        )
    told = _told(design[items.training], y, classes)
    if told is not None:
        raise InputError(
            f"regress_out: the nuisance variables ({_shortened(settings.regress_out)}) tell "
            f"'{told}' of each subject without error, so that the voxels tell nothing about it "
            "once they are regressed out: remove those that stand for it"
        )
    for about, train, test in _parts(settings, items, y, seed):
        _require_known(settings, items, about, train, test)


def _parts(
    settings: LinearSettings, items: Items, y: IntArray | FloatArray, seed: int
) -> Iterator[tuple[str, IntArray, IntArray]]:
    """Yield what trains each model, in words and as numbers, and those that it is to correct."""
    numbers = np.flatnonzero(items.training)
    for fold, (train, test) in enumerate(splits(settings, y, seed)):
        yield f"train fold {fold}", numbers[train], numbers[test]
    yield "train the model", numbers, np.flatnonzero(~items.training)


def _require_known(
    settings: LinearSettings, items: Items, about: str, train: IntArray, test: IntArray
) -> None:
    """Check that what trains a model tells the effects of nuisance variables on other items."""
    advice = "add subjects, merge rare values, or remove"
    for variable in settings.regress_out:
        _, design = columns_of([variable], items)
        unknown = test[untold(design[train], design[test])]
        if len(unknown):
            raise InputError(
                f"regress_out: none of the subjects that {about} has the '{variable}' of subject "
                f"'{items.names[unknown[0]]}', so that it cannot be regressed out of its volume: "
                f"{advice} '{variable}' from `regress_out`"
            )
    _, design = columns_of(settings.regress_out, items)
    unknown = test[untold(design[train], design[test])]
    if len(unknown):
        raise InputError(
            f"regress_out: the subjects that {about} do not tell the effects of "
            f"{_shortened(settings.regress_out)} apart, as subject '{items.names[unknown[0]]}' "
            f"needs: {advice} one of them from `regress_out`"
        )


def untold(train: FloatArray, test: FloatArray) -> NDArray[np.bool_]:
    """Whether a least-squares fit, with an intercept, leaves the predictions for rows open.

    They are determined if and only if [1, row] is in the span of the rows [1, train].

    Parameters
    ----------
    train : float64 array (n, m)
    test : float64 array (k, m)

    Returns
    -------
    bool array (k,)
    """
    known_rows, rows = _scaled(train, test)
    _, singular, directions = np.linalg.svd(known_rows, full_matrices=False)
    known = directions[singular > _ROUNDING]
    rest = rows - rows @ known.T @ known
    return np.asarray(np.abs(rest).max(axis=1, initial=0.0) > _ROUNDING)


def _told(design: FloatArray, y: IntArray | FloatArray, classes: Sequence[str]) -> str | None:
    """Name of a class, or of the value, that is linear in the design; None if none is."""
    columns = y[:, None] if len(classes) == 1 else y[:, None] == np.arange(len(classes))
    centred, _ = _scaled(design, design)
    for name, column in zip(classes, columns.T.astype(np.float64), strict=True):
        wanted, _ = _scaled(column[:, None], column[:, None])
        found = np.linalg.lstsq(centred, wanted, rcond=_ROUNDING)[0]
        if np.abs(wanted - centred @ found).max() < _ROUNDING:
            return name
    return None


def _scaled(train: FloatArray, test: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Subtract the training rows' mean, and divide columns by their largest magnitude."""
    mean = train.mean(axis=0)
    largest = np.abs(np.vstack([train, test]) - mean).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    return (train - mean) / scale, (test - mean) / scale


def _shortened(names: Sequence[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names[:3])
    return listed if len(names) <= 3 else f"{listed}, ..."
