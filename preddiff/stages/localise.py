"""Stage localise: score how well maps find known lesions."""

import argparse
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
from preddiff.settings.options import add_path
from preddiff.storage.files import write_atomically
from preddiff.storage.stores import array, open_dataset, open_store

WEIGHTS = "weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("stores", type=Path, nargs="+", help="relevance stores of one classifier")
    add_path(parser, "--classifier", "folder of the classifier, whose weights are scored too")
    add_path(parser, "--data", "data store with truth masks")
    add_path(parser, "--out", "table to write (.tsv)")
    add_path(parser, "--summary", "table of means to write; default: beside --out", required=False)


def run(arguments: argparse.Namespace) -> None:
    """Score the maps."""
    localise(arguments.stores, arguments.classifier, arguments.data, arguments.out)


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
    _write(table, out)
    _write(compare_localisation(table, WEIGHTS), out.with_name(f"{out.stem}-summary.tsv"))


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


def _write(table: pd.DataFrame, path: Path) -> None:
    with write_atomically(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
