"""Stage explain: compute the missing expectations of some items of a store."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from preddiff.classifiers.stored import load_classifier
from preddiff.datasets.items import Items
from preddiff.devices import use_cores
from preddiff.engines.base import Engine
from preddiff.errors import InputError
from preddiff.methods.prediction_difference import (
    ExpectationSettings,
    Request,
    code_of_expectations,
    linear_engine,
    network_engine,
)
from preddiff.methods.selection import item_digests, sources_of
from preddiff.progress import progress
from preddiff.settings.base import validate
from preddiff.settings.options import add_path, add_threads, whole_number
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.inputs import Inputs
from preddiff.storage.locks import Claim, claim
from preddiff.storage.provenance import digest_code, digest_json
from preddiff.storage.shards import filling, require_unchanged
from preddiff.storage.stores import PROVENANCE, array
from preddiff.targets import Target
from preddiff.windows import Box

# Number of items that are read at a time, which limits memory.
_ITEMS_IN_MEMORY = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("store", type=Path, help="expectation store, made by `preddiff open`")
    parser.add_argument(
        "--first", type=whole_number(0), default=0, help="first item, counted from 0 (default: 0)"
    )
    parser.add_argument(
        "--last", type=whole_number(0), help="stop before this item (default: no limit)"
    )
    add_path(parser, "--marker", "file to write when the items are complete", required=False)
    add_threads(parser)
    parser.add_argument(
        "--batch-size",
        type=whole_number(0),
        default=0,
        help="number of inputs per forward pass of a network; default: depends on the device",
    )


def run(arguments: argparse.Namespace) -> None:
    """Explain the items."""
    explain(
        arguments.store,
        arguments.first,
        arguments.last,
        arguments.marker,
        threads=arguments.threads,
        batch_size=arguments.batch_size or None,
    )


def explain(
    path: Path,
    first: int,
    last: int | None,
    marker: Path | None,
    *,
    threads: int | None = None,
    batch_size: int | None = None,
) -> None:
    """Compute the missing blocks of some items, and store them one by one.

    Damaged blocks are computed again. If another process explains any of these items, this one
    waits until it has ended.

    Parameters
    ----------
    path : Path
        Expectation store, which refers to its classifier, its Gaussian and its settings.
    first, last : int
        Explain the items `first` to `last` - 1 of the store; to the end if `last` is None.
    marker : Path, optional
        File to write when all these items are complete.
    threads : int, optional
        Number of cores for a network.
    batch_size : int, optional
        Number of inputs per forward pass of a network. It does not change the draws, and changes
        results by rounding only.

    Raises
    ------
    InputError
        If the classifier, the Gaussian or the items changed since the store was opened, or the
        store is deleted or replaced in the meantime.
    """
    use_cores(threads)
    with claim(path, first, last) as mine:
        store = ExpectationStore(path, "r+")
        numbers = list(range(len(store.items)))[first:last]
        with mine.writing():
            store.remove_leftovers(numbers)
        missing = _missing(store, numbers, mine)
        done = sum(len(store.blocks) - len(blocks) for blocks in missing.values())
        with filling(store, first, last, marker, done, mine):
            if any(missing.values()):
                inputs = Inputs.of(path, store.about)
                items = Items(inputs.data)
                engine = _engine(path, inputs, items, store, batch_size)
                compute_blocks(store, items, engine, missing, mine)


def _missing(store: ExpectationStore, numbers: list[int], mine: Claim) -> dict[int, list[Box]]:
    """Find the blocks of each item that have to be computed."""
    missing = {number: store.missing(number) for number in numbers}
    for number, blocks in missing.items():
        damaged = store.damaged(number) if blocks else []
        if damaged:
            print(
                f"item '{store.items[number]}': recomputing damaged blocks ({len(damaged)})",
                file=sys.stderr,
            )
            with mine.writing():
                store.discard(number, damaged)
            missing[number] = store.missing(number)
    return missing


def compute_blocks(
    store: ExpectationStore,
    items: Items,
    engine: Engine,
    missing: dict[int, list[Box]],
    mine: Claim,
) -> None:
    """Compute and store blocks of expectations.

    Parameters
    ----------
    store : ExpectationStore
    items : Items
        The data store that the store's items are in.
    engine : Engine
    missing : dict of int to list of Box
        By item, as its number in the store.
    mine : Claim
        Of these items.
    """
    unfinished = [n for n, blocks in missing.items() if blocks]
    left = sum(block.size for blocks in missing.values() for block in blocks)
    with progress(total=left, desc="explain", unit="window", unit_scale=True) as bar:
        for loaded in _batches(unfinished, _ITEMS_IN_MEMORY):
            numbers = [items.number(store.items[n]) for n in loaded]
            x = dict(zip(loaded, items.read(numbers, _slab(store)), strict=True))
            # Blocks are the outer loop, so that engines prepare each block once for all items.
            for block in store.blocks:
                for batch in _batches([n for n in loaded if block in missing[n]], engine.batch):
                    names = [store.items[n] for n in batch]
                    inputs = np.stack([x[n] for n in batch])
                    found = engine.expectations(inputs, names, block, bar.update)
                    with mine.writing():
                        store.write(batch, block, found)


def _batches(numbers: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _slab(store: ExpectationStore) -> tuple[slice, ...]:
    corner = store.about["corner"]
    return tuple(slice(c, c + n) for c, n in zip(corner, store.windows.space, strict=True))


def _engine(
    path: Path, inputs: Inputs, items: Items, store: ExpectationStore, batch_size: int | None
) -> Engine:
    """Return the engine of a store's explanation, if its inputs are those it was opened with."""
    settings = _settings(path, store)
    made_of, windows = store.about[PROVENANCE], settings.windows
    seed = made_of.get("seed", 0)
    classifier = load_classifier(inputs.classifier)
    numbers = np.asarray(array(store.group, "class_number")[:])
    sources = sources_of(inputs, items, classifier, windows.l, seed)
    now = {
        "code": digest_code(*code_of_expectations(classifier, settings.sampler)),
        "classifier": classifier.digest,
        "items": digest_json(item_digests(items, store.items, numbers)),
        **settings.sampler.provenance(sources),
    }
    require_unchanged(store, now, "open")
    request = Request(
        settings.sampler.build(sources),
        store.windows,
        tuple(Target.parse(text) for text in store.targets),
        dict(zip(store.items, numbers.tolist(), strict=True)),
        seed,
    )
    if classifier.has_exact_form:
        return linear_engine(windows, made_of["estimator"], classifier, request)
    return network_engine(windows, classifier, request, batch_size)


def _settings(path: Path, store: ExpectationStore) -> ExpectationSettings:
    if "settings" not in store.about:
        raise InputError(
            f"{path}: the store was opened by an older version of preddiff; open it again with "
            "preddiff open"
        )
    return validate(ExpectationSettings, store.about["settings"], str(path))
