"""Stage explain: compute the missing expectations of some items of a store."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import numpy as np

from preddiff.classifiers.stored import load_classifier
from preddiff.datasets.items import Items
from preddiff.devices import use_cores
from preddiff.engines.base import DrawingEngine, Engine
from preddiff.engines.refined import levels
from preddiff.errors import InputError
from preddiff.methods.prediction_difference import (
    ExpectationSettings,
    Request,
    code_of_expectations,
    engines_of_levels,
    linear_engine,
    network_engine,
)
from preddiff.methods.selection import AnyClassifier, item_digests, sources_of, windows_of
from preddiff.progress import progress
from preddiff.refinement import passes_left
from preddiff.settings.base import validate
from preddiff.settings.options import add_path, add_threads, whole_number
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.filled import has_levels, share_done
from preddiff.storage.inputs import Inputs
from preddiff.storage.levels import LevelStore
from preddiff.storage.locks import Claim, claim
from preddiff.storage.markers import remove_marker_of
from preddiff.storage.provenance import digest_code, digest_json
from preddiff.storage.shards import filling, require_unchanged
from preddiff.storage.stores import PROVENANCE, array
from preddiff.targets import Target
from preddiff.windows import Box

# Number of items that are read at a time, which limits memory.
_ITEMS_IN_MEMORY = 256

# Records that a job has so many blocks at its start and, unless the body raises, that it is done.
Shard: TypeAlias = Callable[[float], AbstractContextManager[None]]


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
    """Compute the missing blocks or levels of some items, and store them one by one.

    Damaged ones are computed again. If another process explains any of these items, this one
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
        store is deleted or replaced, or another accuracy asked for, in the meantime.
    """
    use_cores(threads)
    with claim(path, first, last) as mine:
        store = LevelStore(path, "r+") if has_levels(path) else ExpectationStore(path, "r+")
        numbers = list(range(len(store.items)))[first:last]
        with mine.writing():
            store.remove_leftovers(numbers)

        def shard(done: float) -> AbstractContextManager[None]:
            return filling(store, first, last, marker, done, mine)

        if isinstance(store, LevelStore):
            _fill_levels(store, numbers, shard, mine, batch_size)
        else:
            _fill_blocks(store, numbers, shard, mine, batch_size)


def _fill_blocks(
    store: ExpectationStore, numbers: list[int], shard: Shard, mine: Claim, batch_size: int | None
) -> None:
    """Compute the blocks of some items that are missing."""
    missing = _missing(store, numbers, mine)
    done = sum(len(store.blocks) - len(blocks) for blocks in missing.values())
    with shard(done):
        if any(missing.values()):
            items, classifier, request = _request(store)
            settings = _settings(store).windows
            if classifier.has_exact_form:
                estimator = store.about[PROVENANCE]["estimator"]
                engine: Engine = linear_engine(settings, estimator, classifier, request)
            else:
                engine = network_engine(settings, classifier, request, batch_size)
            compute_blocks(store, items, request.part, engine, missing, mine)


def _fill_levels(
    store: LevelStore, numbers: list[int], shard: Shard, mine: Claim, batch_size: int | None
) -> None:
    """Refine the maps of some items that are not accurate enough."""
    for number in numbers:
        damaged = store.damaged(number)
        if damaged:
            print(
                f"item '{store.items[number]}': recomputing damaged levels, from {damaged[0]} on",
                file=sys.stderr,
            )
            with mine.writing():
                # First, so that a shard never counts as complete though levels of it are missing.
                remove_marker_of(store.path, number)
                store.discard(number, damaged[0])
    left = [number for number in numbers if store.accurate_levels(number) is None]
    errors = [store.errors(number)[1].max(axis=1) for number in left]
    done = len(numbers) - len(left) + sum(share_done(one, store.accuracy) for one in errors)
    with shard(done):
        if left:
            items, classifier, request = _request(store)
            engines = engines_of_levels(_settings(store).windows, classifier, request, batch_size)
            compute_levels(store, items, request.part, engines, left, mine)


def compute_levels(
    store: LevelStore,
    items: Items,
    part: tuple[slice, ...],
    engines: tuple[DrawingEngine, DrawingEngine | None],
    unfinished: list[int],
    mine: Claim,
) -> None:
    """Draw windows of items level by level, and store each level, until the maps are accurate.

    Parameters
    ----------
    store : LevelStore
    items : Items
        The data store that the store's items are in.
    part : tuple of slice
        Part of the items that the engines are given.
    engines : tuple of DrawingEngine
        See `engines_of_levels`.
    unfinished : list of int
        Items, as their numbers in the store.
    mine : Claim
        Of these items.
    """
    refinement, (engine, in_float32) = store.refinement, engines
    with progress(desc="explain", unit="window", unit_scale=True) as bar:
        for done, number in enumerate(unfinished):
            name = store.items[number]
            (x,) = items.read([items.number(name)], part)
            before = store.read(number, len(store.errors(number)[1]))
            for level in levels(engine, refinement, x, name, bar.update, before, in_float32):
                passes, reached = level.drawn.passes, level.estimate.reached
                with mine.writing():
                    store.write(number, level.number, level.new, passes, reached)
                is_last = refinement.is_reached(passes, reached, store.accuracy)
                left = passes_left(passes, reached, store.accuracy) // refinement.samples
                left = 0 if is_last else left
                # Further items are expected to take as many as those so far.
                per_item = (bar.n + left) / (done + 1)
                bar.total = int(bar.n + left + per_item * (len(unfinished) - done - 1))
                error = f"error {reached.max():.3f} of {store.accuracy:g}"
                bar.set_postfix_str(f"item {done + 1} of {len(unfinished)}, {error}")
                if is_last:
                    break


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
    part: tuple[slice, ...],
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
    part : tuple of slice
        Part of the items that the engine is given.
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
            x = dict(zip(loaded, items.read(numbers, part), strict=True))
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


def _request(store: ExpectationStore | LevelStore) -> tuple[Items, AnyClassifier, Request]:
    """What the engine of a store computes, if its inputs are those that it was opened with."""
    settings, inputs = _settings(store), Inputs.of(store.path, store.about)
    items = Items(inputs.data)
    by_fold = settings.windows.held_out
    classifier = load_classifier(inputs.classifier, items, by_fold=by_fold)
    windows, seed = settings.windows, store.about[PROVENANCE].get("seed", 0)
    numbers = np.asarray(array(store.group, "class_number")[:])
    sources = sources_of(inputs, items, classifier, settings, seed)
    now = {
        "code": digest_code(*code_of_expectations(windows, classifier, settings.sampler)),
        "classifier": classifier.digest,
        "items": digest_json(item_digests(items, store.items, numbers, classifier)),
        **settings.sampler.provenance(sources),
    }
    require_unchanged(store, now, "open")
    request = Request(
        settings.sampler.build(sources),
        sources.context,
        windows_of(items, classifier, settings).cropped(sources.context),
        tuple(Target.parse(text) for text in store.targets),
        dict(zip(store.items, numbers.tolist(), strict=True)),
        seed,
    )
    return items, classifier, request


def _settings(store: ExpectationStore | LevelStore) -> ExpectationSettings:
    if "settings" not in store.about:
        raise InputError(
            f"{store.path}: the store was opened by an older version of preddiff; open it again "
            "with preddiff open"
        )
    return validate(ExpectationSettings, store.about["settings"], str(store.path))
