"""Stage relevance: compute evidence of windows and relevance of voxels from expectations."""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.evidence import Evidence
from preddiff.progress import progress
from preddiff.settings.options import add_path, add_threads
from preddiff.storage.aside import set_aside
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.files import replace_folder
from preddiff.storage.filled import has_levels
from preddiff.storage.inputs import Inputs
from preddiff.storage.levels import LevelStore
from preddiff.storage.locks import exclusive
from preddiff.storage.maps import is_store_of_maps
from preddiff.storage.markers import opened_file
from preddiff.storage.relevance import create_relevance, parts_to_write
from preddiff.storage.stores import PROVENANCE, array
from preddiff.targets import Target

# Maps of an item, given its number, in the order of the arrays of the relevance store.
MapsOf: TypeAlias = Callable[[int], tuple[NDArray[np.float32], ...]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("store", type=Path, help="complete expectation store")
    add_path(parser, "--out", "relevance store to write")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the relevance."""
    compute_relevance(arguments.store, arguments.out, arguments.threads)


def compute_relevance(expectations: Path, out: Path, threads: int = 1) -> None:
    """Write the relevance of all items of a complete expectation store.

    The store contains `relevance` and `stderr` (item, target, *space), for the voxels of the
    classifier's input. `stderr` comes from the variance over draws; it is 0 for exact expectations.
    With an accuracy, it contains `error` too: the standard deviation of the relevance's error,
    interpolation included.

    Parameters
    ----------
    expectations, out : Path
        Expectation store, and relevance store.
    threads : int
        Number of items that are computed at a time.

    Raises
    ------
    InputError
        If blocks are missing, or maps are not accurate yet.
    """
    with_levels = has_levels(expectations)
    store = LevelStore(expectations) if with_levels else ExpectationStore(expectations)
    maps_of = _refined(store) if isinstance(store, LevelStore) else _averaged(store)
    if is_store_of_maps(out):
        _set_maps_aside(out)
    with replace_folder(out) as folder:
        _create(folder, store, out)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        names = ("relevance", "stderr", "error") if with_levels else ("relevance", "stderr")
        arrays = [array(group, name) for name in names]
        with (
            progress(total=len(store.items), desc="relevance", unit="item") as bar,
            ThreadPoolExecutor(threads) as pool,
        ):
            for part in parts_to_write(arrays[0]):
                found = list(pool.map(maps_of, range(part.start, part.stop)))
                for stored, values in zip(arrays, zip(*found, strict=True), strict=True):
                    stored[part] = np.stack(values)
                bar.update(part.stop - part.start)


def _averaged(store: ExpectationStore) -> MapsOf:
    """Relevance, and its standard error, of items whose windows are all drawn alike."""
    evidence = _evidence(store.about)
    targets = [Target.parse(text) for text in store.targets]
    return lambda item: evidence.maps(targets, store.windows, store.read(item))


def _refined(store: LevelStore) -> MapsOf:
    """Relevance, its standard error and its error, after the first level that is accurate."""

    def maps_of(item: int) -> tuple[NDArray[np.float32], ...]:
        levels = store.accurate_levels(item)
        if levels is None:
            raise InputError(
                f"{store.path}: the maps of item '{store.items[item]}' are not accurate to "
                f"{store.accuracy:g} yet; run `preddiff explain {store.path}`"
            )
        found = store.refinement.estimate(store.drawn(item, levels))
        maps = found.relevance, found.stderr, found.error
        return tuple(values.astype(np.float32) for values in maps)

    return maps_of


def _set_maps_aside(out: Path) -> None:
    """Make room where another method, which the explanation had before, left its maps."""
    with exclusive(out):
        path = set_aside(out)
        # If that method comes back, its store has to be opened again.
        opened_file(out).unlink(missing_ok=True)
    if path is not None:
        print(f"{out}: its maps are set aside as {path}", file=sys.stderr)


def _evidence(about: dict[str, Any]) -> Evidence:
    exact = about[PROVENANCE]["estimator"] == "exact"
    return Evidence(
        samples=None if exact else about[PROVENANCE]["samples"],
        training_size=about["training_size"],
        classes=len(about["classes"]),
    )


def _create(folder: Path, store: ExpectationStore | LevelStore, out: Path) -> None:
    about, made_of = store.about, {**store.about[PROVENANCE], "expectations": store.path.name}
    if isinstance(store, LevelStore):
        made_of["accuracy"] = store.accuracy
    create_relevance(
        folder,
        store.items,
        store.targets,
        np.asarray(array(store.group, "class_number")[:]),
        np.asarray(array(store.group, "reference")[:]),
        made_of,
        {
            **{key: about[key] for key in ("corner", "space", "k", "classes", "training_size")},
            "inputs": Inputs.of(store.path, about).relative_to(out),
            "shows_evidence": True,
        },
        with_error=isinstance(store, LevelStore),
    )
