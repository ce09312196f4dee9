"""Stage explain: fill the missing blocks of an expectation store for a range of its items."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines import Engine, linear
from preddiff.errors import InputError
from preddiff.files import write_atomically
from preddiff.gaussian import LocatedPatchGaussian
from preddiff.items import Items
from preddiff.progress import progress
from preddiff.samplers import Conditional, Grey, Marginal, Sampler
from preddiff.stages.gaussian import load_gaussian
from preddiff.stages.open import classifier_digest, engine_digest, gaussian_digest
from preddiff.stores import PROVENANCE, ExpectationStore
from preddiff.targets import Target
from preddiff.windows import Block

# Items that are read at a time, which bounds memory.
_ITEMS_IN_MEMORY = 256


def explain(path: Path, first: int, last: int | None, marker: Path | None) -> None:
    """Compute what is missing of some items, and store it block by block.

    Parameters
    ----------
    path : Path
        Expectation store that the stage open made; it knows classifier, Gaussian and settings.
    first, last : int
        Items `first` to `last` - 1 of the store; to its end if `last` is None.
    marker : Path, optional
        File to write when all of them are complete.

    Raises
    ------
    InputError
        If the classifier, the Gaussian or the items changed since the store was opened.
    """
    store = ExpectationStore(path, "r+")
    about = store.about
    numbers = list(range(len(store.items)))[first:last]
    missing = {number: store.missing(number) for number in numbers}
    if any(missing.values()):
        items, engine = _engine(path, about, store)
        _fill(store, items, engine, missing)
    if marker is not None:
        with write_atomically(marker) as temporary:
            found = {"items": [store.items[n] for n in numbers], PROVENANCE: about[PROVENANCE]}
            temporary.write_text(json.dumps(found, indent=2) + "\n")


def _fill(
    store: ExpectationStore, items: Items, engine: Engine, missing: dict[int, list[Block]]
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
                    found = engine.expectations(np.stack([x[n] for n in batch]), names, block)
                    store.write(batch, block, found)
                    bar.update(block.size * len(batch))


def _batches(numbers: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _slab(store: ExpectationStore) -> tuple[slice, ...]:
    corner = store.about["corner"]
    return tuple(slice(c, c + n) for c, n in zip(corner, store.windows.space, strict=True))


def _engine(path: Path, about: dict[str, Any], store: ExpectationStore) -> tuple[Items, Engine]:
    inputs, provenance = about["inputs"], about[PROVENANCE]
    items = Items(path.parent / inputs["data"])
    classifier = LinearClassifier.load(path.parent / inputs["classifier"])
    gaussian = None if inputs["gaussian"] is None else path.parent / inputs["gaussian"]
    _require(path, "code", provenance, engine_digest())
    _require(path, "classifier", provenance, classifier_digest(classifier))
    if gaussian is not None:
        _require(path, "gaussian", provenance, gaussian_digest(gaussian))
    sampler = _sampler(provenance, items, classifier, gaussian)
    targets = [Target.parse(text) for text in store.targets]
    if provenance["estimator"] == "exact":
        return items, linear.Exact(classifier, sampler, store.windows, targets)
    samples, seed = provenance["samples"], provenance["seed"]
    return items, linear.Samples(classifier, sampler, store.windows, targets, samples, seed)


def _require(path: Path, what: str, provenance: dict[str, Any], digest: str) -> None:
    if provenance[what] != digest:
        raise InputError(
            f"{path}: the {what} is not the one that the store was opened for; "
            "open the store anew with preddiff open"
        )


def _sampler(
    provenance: dict[str, Any],
    items: Items,
    classifier: LinearClassifier,
    gaussian: Path | None,
) -> Sampler:
    if gaussian is not None:
        fitted = load_gaussian(gaussian)
        if isinstance(fitted, LocatedPatchGaussian):
            fitted = fitted.at(classifier.corner)
        clip = provenance["clip"]
        return Conditional(fitted, None if clip is None else (clip[0], clip[1]))
    if provenance["sampler"] == "grey" and provenance["value"] is not None:
        return Grey(provenance["value"])
    training = np.flatnonzero(items.training)
    donors = items.read(training, classifier.slab)
    if provenance["sampler"] == "grey":
        return Grey(float(donors.mean(dtype=np.float64)))
    return Marginal(donors, [items.names[n] for n in training])
