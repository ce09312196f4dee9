"""Stage localise: score how well maps find known lesions."""

import argparse
import sys
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.localisation import compare_localisation, score_map
from preddiff.settings.options import add_path
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import array
from preddiff.storage.writers import beside, write_tsv

WEIGHTS = "weights"
# Significant digits of the tables.
_DIGITS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("stores", type=Path, nargs="+", help="relevance stores of one classifier")
    add_path(parser, "--classifier", "folder of the classifier, whose weights are scored too")
    add_path(parser, "--data", "data store with truth masks")
    add_path(parser, "--out", "table to write (.tsv)")
    add_path(
        parser,
        "--summary",
        "comparison of maps to write; default: beside --out",
        required=False,
    )


def run(arguments: argparse.Namespace) -> None:
    """Score the maps."""
    summary = arguments.summary or beside(arguments.out, "summary")
    localise(arguments.stores, arguments.classifier, arguments.data, arguments.out, summary)


def localise(
    stores: Sequence[Path], classifier_folder: Path, data: Path, out: Path, summary: Path
) -> None:
    """Score the magnitude of each map against the true masks, inside the classifier's slab.

    The maps are those of the relevance stores' first targets and, as a baseline, the classifier's
    weights, which are the same for all items. Stores none of whose items has a lesion are skipped.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores; a map is named as its store.
    classifier_folder, data : Path
    out, summary : Path
        Tables to write (.tsv): one row per map and item with a lesion in the slab; the summary
        over items, with each map compared with the weights.

    Raises
    ------
    InputError
        If the cohort has no truth masks.
    """
    items, classifier = Items(data), LinearClassifier.load(classifier_folder)
    truth = _truth(items, classifier.slab)
    mask = np.ones(classifier.space, dtype=bool)
    tables = []
    for path in stores:
        names, maps = _maps(path, truth)
        if names:
            tables.append(score_map(path.stem, names, maps, truth, mask))
        else:
            print(f"{path}: skipped, since none of its items has a lesion", file=sys.stderr)
    weights = np.broadcast_to(classifier.maps[-1].sum(axis=0), (len(truth), *classifier.space))
    tables.append(score_map(WEIGHTS, list(truth), weights, truth, mask))
    table = pd.concat(tables, ignore_index=True)
    write_tsv(table, out, digits=_DIGITS)
    write_tsv(compare_localisation(table, WEIGHTS), summary, digits=_DIGITS)


def _truth(items: Items, slab: tuple[slice, ...]) -> dict[str, NDArray[np.bool_]]:
    masks = {name: items.truth(number, slab) for number, name in enumerate(items.names)}
    known = {name: mask for name, mask in masks.items() if mask is not None and mask.any()}
    if not known:
        raise InputError(f"{items.path} has no truth masks inside the classifier's slab")
    return known


def _maps(path: Path, truth: Container[str]) -> tuple[list[str], NDArray[np.float32]]:
    """Names and maps of a store's items whose truth is known."""
    group = open_relevance(path)
    names = [str(name) for name in np.asarray(array(group, "item")[:])]
    relevance = array(group, "relevance")
    chosen = [number for number, name in enumerate(names) if name in truth]
    maps = [np.asarray(relevance[number, 0]) for number in chosen]
    return [names[number] for number in chosen], np.array(maps)
