"""Stage localise-images: score how well maps find the annotated objects of images."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.boxes import MEASURES as OF_BOXES
from preddiff.evaluation.objects import (
    CENTRE_BOX,
    CENTRE_GAUSSIAN,
    centre_maps,
    compare_objects,
    score_objects,
)
from preddiff.evaluation.saliency import MEASURES as OF_MASKS
from preddiff.progress import progress
from preddiff.settings.options import add_path
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import array, attributes
from preddiff.storage.writers import beside, write_tsv

# Significant digits of the tables.
_DIGITS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("stores", type=Path, nargs="+", help="relevance stores of one dataset")
    add_path(parser, "--data", "data store with boxes or masks")
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
    localise_images(arguments.stores, arguments.data, arguments.out, summary)


def localise_images(stores: Sequence[Path], data: Path, out: Path, summary: Path) -> None:
    """Score each map against the boxes and masks of its image's objects.

    The maps are those of the relevance stores' first targets. Baselines are a box and a Gaussian in
    the centre of every image that one of the stores explains. Images without annotations are
    skipped, and the tables are empty if none of the images has any.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores of images; a map is named as its store.
    data : Path
        Their data store.
    out, summary : Path
        Tables to write (.tsv): one row for each map and annotated image; the summary over images,
        with each map compared with a baseline.

    Raises
    ------
    InputError
        If the data store has neither boxes nor masks, a map does not have the size of its image, or
        is not finite, or if two maps would have the same name.
    """
    _require_names(stores)
    items = Items(data)
    columns = [
        *(OF_BOXES if "boxes" in items.group else ()),
        *(OF_MASKS if "truth" in items.group else ()),
    ]
    if not columns:
        raise InputError(f"{data} has neither boxes nor masks: provide them with the dataset")
    found = [_Annotated(items, path) for path in stores]
    rows = [row for one in found for row in one.rows()]
    explained = dict.fromkeys(name for one in found for name in one.names)
    baselines = centre_maps((items.space[0], items.space[1]))
    rows += [
        {"map": name, "item": item, **scores}
        for name, values in baselines.items()
        for item in explained
        if (scores := _scores(items, item, values))
    ]
    table = pd.DataFrame(rows, columns=["map", "item", "target", *columns])
    if table.empty:
        print(f"{data}: none of the explained images has a box or a mask", file=sys.stderr)
    write_tsv(table, out, digits=_DIGITS)
    write_tsv(compare_objects(table), summary, digits=_DIGITS)


def _require_names(stores: Sequence[Path]) -> None:
    names = [CENTRE_BOX, CENTRE_GAUSSIAN, *(path.stem for path in stores)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"two maps would be called '{twice}' in the tables: give stores of other names"
        )


def _scores(items: Items, item: str, values: NDArray[np.floating[Any]]) -> dict[str, float]:
    number = items.number(item)
    return score_objects(values, items.boxes(number), items.truth(number))


class _Annotated:
    """The maps of a relevance store, and the annotations of their images."""

    def __init__(self, items: Items, path: Path) -> None:
        group = open_relevance(path)
        self._items, self._path = items, path
        self.names = [str(name) for name in np.asarray(array(group, "item")[:])]
        self._shows_evidence = bool(attributes(group).get("shows_evidence", True))
        self._target = str(np.asarray(array(group, "target")[:1])[0])
        self._relevance = array(group, "relevance")
        if self._relevance.shape[2:] != items.space:
            raise InputError(
                f"{path}: its maps have the shape {self._relevance.shape[2:]}, but the images of "
                f"{items.path} {items.space}"
            )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Scores of each annotated image."""
        for row, item in enumerate(progress(self.names, desc=self._path.stem, unit="image")):
            values = np.asarray(self._relevance[row, 0])
            if not np.isfinite(values).all():
                raise InputError(
                    f"{self._path}: the map of item '{item}' is incomplete: finish the explanation"
                )
            # Only differences of magnitudes count: averages over masks (RISE) have a large offset.
            values = values if self._shows_evidence else values - values.min()
            scores = _scores(self._items, item, values)
            if scores:
                yield {"map": self._path.stem, "item": item, "target": self._target, **scores}
