"""Stage relevance: compute evidence of windows and relevance of voxels from expectations."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from preddiff.evidence import Evidence
from preddiff.progress import progress
from preddiff.settings.options import add_path
from preddiff.storage.aside import set_aside
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.files import replace_folder
from preddiff.storage.inputs import Inputs
from preddiff.storage.locks import exclusive
from preddiff.storage.maps import is_store_of_maps
from preddiff.storage.markers import opened_file
from preddiff.storage.relevance import create_relevance, parts_to_write
from preddiff.storage.stores import PROVENANCE, array
from preddiff.targets import Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("store", type=Path, help="complete expectation store")
    add_path(parser, "--out", "relevance store to write")


def run(arguments: argparse.Namespace) -> None:
    """Write the relevance."""
    compute_relevance(arguments.store, arguments.out)


def compute_relevance(expectations: Path, out: Path) -> None:
    """Write the relevance of all items of a complete expectation store.

    The store contains `relevance` and `stderr` (item, target, *space), for the voxels of the
    classifier's input. `stderr` comes from the variance over draws; it is 0 for exact expectations.

    Raises
    ------
    InputError
        If blocks are missing.
    """
    store = ExpectationStore(expectations)
    evidence = _evidence(store.about)
    targets = [Target.parse(text) for text in store.targets]
    if is_store_of_maps(out):
        _set_maps_aside(out)
    with replace_folder(out) as folder:
        _create(folder, store, out)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        arrays = [array(group, name) for name in ("relevance", "stderr")]
        with progress(total=len(store.items), desc="relevance", unit="item") as bar:
            for part in parts_to_write(arrays[0]):
                numbers = range(part.start, part.stop)
                found = [evidence.maps(targets, store.windows, store.read(n)) for n in numbers]
                for stored, values in zip(arrays, zip(*found, strict=True), strict=True):
                    stored[part] = np.stack(values)
                bar.update(part.stop - part.start)


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


def _create(folder: Path, store: ExpectationStore, out: Path) -> None:
    about = store.about
    create_relevance(
        folder,
        store.items,
        store.targets,
        np.asarray(array(store.group, "class_number")[:]),
        np.asarray(array(store.group, "reference")[:]),
        {**about[PROVENANCE], "expectations": store.path.name},
        {
            **{key: about[key] for key in ("corner", "space", "k", "classes", "training_size")},
            "inputs": Inputs.of(store.path, about).relative_to(out),
            "shows_evidence": True,
        },
    )
