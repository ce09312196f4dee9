"""Stage localise: score how well maps find known lesions, where the cohort has masks of them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.localisation import compare_localisation, localisation
from preddiff.storage.stores import array, open_dataset, open_store
from preddiff.storage.writers import write_tsv

WEIGHTS = "weights"
# Significant digits of the tables.
_DIGITS = 6


def localise(stores: Sequence[Path], classifier_folder: Path, data: Path, out: Path) -> None:
    """Score the magnitude of each map against the true masks, inside the classifier's slab.

    The maps are the relevance stores' first targets (a store none of whose items has a lesion is
    left out) and the classifier's weights (the baseline,
    the same for all items). Magnitude, because a weight's sign alone does not tell for which class
    a voxel speaks.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores; a map is named as its store.
    classifier_folder, data : Path
    out : Path
        Table to write, one row per map and item with a lesion in the slab; the summary over items
        goes to `<name>-summary.tsv` beside it.

    Raises
    ------
    InputError
        If the cohort has no truth masks.
    """
    items, classifier = Items(data), LinearClassifier.load(classifier_folder)
    truth = _truth(items, classifier.slab)
    within = np.ones(classifier.space, dtype=bool)
    tables = [_score(path, truth, within) for path in stores]
    weights = np.abs(classifier.weights[0])
    names = list(truth)
    tables.append(_table(WEIGHTS, names, np.stack([weights] * len(names)), truth, within))
    table = pd.concat(tables, ignore_index=True)
    write_tsv(table, out, digits=_DIGITS)
    summary = out.with_name(f"{out.stem}-summary.tsv")
    write_tsv(compare_localisation(table, WEIGHTS), summary, digits=_DIGITS)


def _truth(items: Items, slab: tuple[slice, ...]) -> dict[str, NDArray[np.bool_]]:
    masks = {name: items.truth(number, slab) for number, name in enumerate(items.names)}
    known = {name: mask for name, mask in masks.items() if mask is not None and mask.any()}
    if not known:
        raise InputError(f"{items.path} has no truth masks inside the classifier's slab")
    return known


def _score(
    path: Path, truth: dict[str, NDArray[np.bool_]], within: NDArray[np.bool_]
) -> pd.DataFrame:
    names = [str(name) for name in open_dataset(path)["item"].values]
    chosen = [number for number, name in enumerate(names) if name in truth]
    if not chosen:
        print(f"{path}: left out, since none of its items has a lesion", file=sys.stderr)
        return pd.DataFrame()
    relevance = array(open_store(path), "relevance")
    maps = np.abs(np.stack([np.asarray(relevance[number, 0]) for number in chosen]))
    return _table(path.stem, [names[n] for n in chosen], maps, truth, within)


def _table(
    name: str,
    items: Sequence[str],
    maps: NDArray[np.floating],
    truth: dict[str, NDArray[np.bool_]],
    within: NDArray[np.bool_],
) -> pd.DataFrame:
    scores = localisation(maps, np.stack([truth[item] for item in items]), within)
    scores.insert(0, "item", list(items))
    scores.insert(0, "map", name)
    return scores
