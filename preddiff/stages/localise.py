"""Stage localise: score how well maps find known lesions."""

import argparse
import sys
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.classifiers.stored import load_classifier
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.localisation import compare_localisation, score_map
from preddiff.evaluation.objects import CENTRE_GAUSSIAN, centre_maps
from preddiff.methods.selection import AnyClassifier
from preddiff.settings.options import add_path
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import array
from preddiff.storage.writers import beside, write_tsv
from preddiff.windows import FloatArray

WEIGHTS = "weights"
# Significant digits of the tables.
_DIGITS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("stores", type=Path, nargs="+", help="relevance stores of one classifier")
    add_path(
        parser,
        "--classifier",
        "folder of the classifier, whose weights are scored too if it is linear",
    )
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

    The maps are those of the relevance stores' first targets and, as a baseline, the weights of a
    linear classifier, or the nearness to the centre for a network, which are the same for all
    items. Stores none of whose items has a lesion are skipped.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores; a map is named as its store.
    classifier_folder, data : Path
    out, summary : Path
        Tables to write (.tsv): one row per map and item with a lesion in the slab; the summary
        over items, with each map compared with the baseline.

    Raises
    ------
    InputError
        If the cohort has no truth masks.
    """
    items, classifier = Items(data), load_classifier(classifier_folder)
    truth = _truth(items, classifier.slab)
    mask = np.ones(classifier.space, dtype=bool)
    tables = []
    for path in stores:
        names, maps = _maps(path, truth)
        if names:
            tables.append(score_map(path.stem, names, maps, truth, mask))
        else:
            print(f"{path}: skipped, since none of its items has a lesion", file=sys.stderr)
    name, baseline = _baseline(classifier)
    maps = np.broadcast_to(baseline, (len(truth), *classifier.space))
    tables.append(score_map(name, list(truth), maps, truth, mask))
    table = pd.concat(tables, ignore_index=True)
    write_tsv(table, out, digits=_DIGITS)
    write_tsv(compare_localisation(table, name), summary, digits=_DIGITS)


def _baseline(classifier: AnyClassifier) -> tuple[str, FloatArray]:
    """Name and values (*space) of a map that is the same for all items.

    A network has no weights of voxels: the baseline is that lesions are in the centre of its input.
    """
    weights = classifier.weights_of(classifier.classes[-1])
    if weights is not None:
        return WEIGHTS, weights
    return CENTRE_GAUSSIAN, centre_maps(classifier.space)[CENTRE_GAUSSIAN]


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
