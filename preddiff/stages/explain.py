"""Stage explain: fill the missing blocks of an expectation store for a range of its items."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network, NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.stored import Classifier, load_classifier
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.engines import linear
from preddiff.engines.base import Engine
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.samplers.base import Sampler
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import LocatedPatchGaussian
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.stages.gaussian import load_gaussian, range_of
from preddiff.stages.open import donors_digest, engine_digest, gaussian_digest, item_digests
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.files import remove_leftovers, write_atomically
from preddiff.storage.inputs import Inputs
from preddiff.storage.locks import Claim, claim
from preddiff.storage.markers import Job, Marker, job_file
from preddiff.storage.provenance import digest_json
from preddiff.storage.stores import PROVENANCE, array
from preddiff.targets import Target
from preddiff.windows import Block

# Items that are read at a time, which bounds memory.
_ITEMS_IN_MEMORY = 256


def explain(
    path: Path,
    first: int,
    last: int | None,
    marker: Path | None,
    *,
    threads: int | None = None,
    batch_size: int | None = None,
) -> None:
    """Compute what is missing of some items, and store it block by block.

    Blocks that are damaged are computed again. While another process explains any of these items,
    this one waits.

    Parameters
    ----------
    path : Path
        Expectation store that the stage open made; it knows classifier, Gaussian and settings.
    first, last : int
        Items `first` to `last` - 1 of the store; to its end if `last` is None.
    marker : Path, optional
        File to write when all of them are complete.
    threads : int, optional
        Cores that a network runs on.
    batch_size : int, optional
        Inputs per forward pass of a network; changes neither draws nor, but for rounding, results.

    Raises
    ------
    InputError
        If the classifier, the Gaussian or the items changed since the store was opened, or the
        store is deleted or started anew meanwhile.
    """
    use_cores(threads)
    with claim(path, first, last) as mine:
        store = ExpectationStore(path, "r+")
        numbers = list(range(len(store.items)))[first:last]
        with mine.writing():
            store.remove_leftovers(numbers)
        missing = _missing(store, numbers, mine)
        started = job_file(path, first, last)
        _tell(started, store, slice(first, last), missing)
        if any(missing.values()):
            inputs = Inputs.of(path, store.about)
            items = Items(inputs.data)
            engine = _engine(path, inputs, items, store, batch_size)
            _fill(store, items, engine, missing, mine)
        if marker is not None:
            with mine.writing():
                _mark(marker, store, slice(first, last))
        started.unlink(missing_ok=True)


def _missing(store: ExpectationStore, numbers: list[int], mine: Claim) -> dict[int, list[Block]]:
    """Blocks that are to be computed, of each item."""
    missing = {number: store.missing(number) for number in numbers}
    for number, blocks in missing.items():
        damaged = store.damaged(number) if blocks else []
        if damaged:
            print(
                f"item '{store.items[number]}': {len(damaged)} blocks are damaged and are computed "
                "again",
                file=sys.stderr,
            )
            with mine.writing():
                store.discard(number, damaged)
            missing[number] = store.missing(number)
    return missing


def _tell(
    started: Path, store: ExpectationStore, shard: slice, missing: dict[int, list[Block]]
) -> None:
    """Write down that a shard is begun, for the stage status."""
    done = sum(len(store.blocks) - len(blocks) for blocks in missing.values())
    about = Job(shard.start, shard.stop, socket.gethostname(), time.time(), done)
    remove_leftovers(started)
    with write_atomically(started) as temporary:
        temporary.write_text(json.dumps(asdict(about)) + "\n")


def _mark(marker: Path, store: ExpectationStore, shard: slice) -> None:
    """Write the marker of a shard that is complete."""
    remove_leftovers(marker)
    found = Marker(shard.start, shard.stop, tuple(store.items[shard]))
    with write_atomically(marker) as temporary:
        temporary.write_text(found.to_json({PROVENANCE: store.about[PROVENANCE]}))


def _fill(
    store: ExpectationStore,
    items: Items,
    engine: Engine,
    missing: dict[int, list[Block]],
    mine: Claim,
) -> None:
    unfinished = [n for n, blocks in missing.items() if blocks]
    left = sum(block.size for blocks in missing.values() for block in blocks)
    with progress(total=left, desc="explain", unit="window", unit_scale=True) as bar:
        for loaded in _batches(unfinished, _ITEMS_IN_MEMORY):
            numbers = [items.number(store.items[n]) for n in loaded]
            x = dict(zip(loaded, items.read(numbers, _slab(store)), strict=True))
            # Blocks come first, then items: what an engine prepares for a block serves them all.
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
    provenance = store.about[PROVENANCE]
    classifier = load_classifier(inputs.classifier)
    _require(path, "code", provenance, engine_digest(classifier))
    _require(path, "classifier", provenance, classifier.digest)
    classes = np.asarray(array(store.group, "class_number")[:])
    found = digest_json(item_digests(items, store.items, classes))
    _require(path, "items", provenance, found)
    if "training items" in provenance:
        donors = items if inputs.donors is None else Items(inputs.donors)
        _require(path, "training items", provenance, donors_digest(donors))
    if inputs.gaussian is not None:
        _require(path, "gaussian", provenance, gaussian_digest(inputs.gaussian))
    sampler = _sampler(provenance, inputs, items, classifier)
    if isinstance(classifier, LinearClassifier):
        return _linear_engine(classifier, sampler, store)
    return _network_engine(classifier, sampler, store, batch_size)


def _linear_engine(
    classifier: LinearClassifier, sampler: Sampler, store: ExpectationStore
) -> Engine:
    provenance = store.about[PROVENANCE]
    targets = [Target.parse(text) for text in store.targets]
    if provenance["estimator"] == "exact":
        return linear.Exact(classifier, sampler, store.windows, targets)
    samples, seed = provenance["samples"], provenance["seed"]
    return linear.Samples(classifier, sampler, store.windows, targets, samples, seed)


def _network_engine(
    network: Network, sampler: Sampler, store: ExpectationStore, batch_size: int | None
) -> Engine:
    provenance = store.about[PROVENANCE]
    numbers = np.asarray(array(store.group, "class_number")[:])
    classes = dict(zip(store.items, numbers.tolist(), strict=True))
    device = device_of(provenance["device"])
    readout = Readout(tuple(Target.parse(text) for text in store.targets))
    kind = Dense if provenance["engine"] == "dense" else Incremental
    return kind(
        NetworkNodes(network, readout, classes, device, provenance["precision"]),
        sampler,
        store.windows,
        provenance["samples"],
        provenance["seed"],
        batch_size,
        standardisation=network.standardisation,
        device=device,
    )


def _require(path: Path, what: str, provenance: dict[str, Any], digest: str) -> None:
    if provenance[what] != digest:
        raise InputError(
            f"{path}: since the store was opened, its {what} changed; open the store anew with "
            "preddiff open"
        )


def _sampler(
    provenance: dict[str, Any], inputs: Inputs, items: Items, classifier: Classifier
) -> Sampler:
    if inputs.gaussian is not None:
        fitted = load_gaussian(inputs.gaussian)
        if isinstance(fitted, LocatedPatchGaussian):
            fitted = fitted.at(classifier.corner)
        return Conditional(fitted, range_of(inputs.gaussian) if provenance["clip"] else None)
    if provenance["sampler"] == "grey" and provenance["value"] is not None:
        return Grey(provenance["value"])
    lenders = items if inputs.donors is None else Items(inputs.donors)
    training = np.flatnonzero(lenders.training)
    donors = lenders.read_stored(training, classifier.slab)
    if provenance["sampler"] == "grey":
        return Grey(float(donors.mean(dtype=np.float64)) * lenders.scale)
    return Marginal(donors, [lenders.names[n] for n in training], lenders.scale)
