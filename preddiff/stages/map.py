"""Stage map: compute the missing maps of some items of a store, by a method without windows."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preddiff.classifiers.held_out import by_model
from preddiff.classifiers.stored import load_classifier
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps, MethodSettings
from preddiff.methods.selection import AnyClassifier, code_of_maps, item_digests
from preddiff.progress import progress
from preddiff.samplers.draws import seed_of
from preddiff.settings.base import validate
from preddiff.settings.options import add_path, add_threads, whole_number
from preddiff.storage.inputs import Inputs
from preddiff.storage.locks import Claim, claim
from preddiff.storage.maps import MapStore
from preddiff.storage.provenance import digest_code, digest_json
from preddiff.storage.shards import filling, require_unchanged
from preddiff.storage.stores import PROVENANCE, array
from preddiff.targets import Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("store", type=Path, help="relevance store, made by `preddiff open-maps`")
    parser.add_argument(
        "--first", type=whole_number(0), default=0, help="first item, counted from 0 (default: 0)"
    )
    parser.add_argument(
        "--last", type=whole_number(0), help="stop before this item (default: no limit)"
    )
    add_path(parser, "--marker", "file to write when the items are complete", required=False)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Compute the maps."""
    use_cores(arguments.threads)
    compute_maps(arguments.store, arguments.first, arguments.last, arguments.marker)


def compute_maps(
    path: Path, first: int = 0, last: int | None = None, marker: Path | None = None
) -> None:
    """Compute the maps of some items that are missing or damaged, and store them one by one.

    If another process explains any of these items, this one waits until it has ended.

    Parameters
    ----------
    path : Path
        Relevance store, which refers to its classifier and its settings.
    first, last : int
        Explain the items `first` to `last` - 1 of the store; to the end if `last` is None.
    marker : Path, optional
        File to write when all these items are complete.

    Raises
    ------
    InputError
        If the classifier or the items changed since the store was opened, a map is not finite, or
        the store is deleted or replaced in the meantime.
    """
    with claim(path, first, last) as mine:
        store = MapStore(path, "r+")
        numbers = list(range(len(store.items)))[first:last]
        with mine.writing():
            store.remove_leftovers(numbers)
        missing = store.missing(numbers)
        with filling(store, first, last, marker, len(numbers) - len(missing), mine):
            if missing:
                _fill(store, missing, mine)


def _fill(store: MapStore, missing: list[int], mine: Claim) -> None:
    """Compute and store the maps of some items, given as positions in the store."""
    inputs = Inputs.of(store.path, store.about)
    items = Items(inputs.data)
    method = _method(store)
    classifier = load_classifier(inputs.classifier, items, by_fold=method.held_out)
    classes = np.asarray(array(store.group, "class_number")[:])
    now = {
        "code": digest_code(*code_of_maps(method, classifier)),
        "classifier": classifier.digest,
        "items": digest_json(item_digests(items, store.items, classes, classifier)),
        **method.provenance(),
    }
    require_unchanged(store, now, "open-maps")
    with progress(total=len(missing), desc="map", unit="item") as bar:
        for numbers, found in _maps(store, missing, items, classifier, method, classes):
            for number, maps in zip(numbers, found, strict=True):
                for note in maps.notes:
                    print(f"item '{store.items[number]}': {note}", file=sys.stderr)
                with mine.writing():
                    store.write(number, _values(maps))
            bar.update(len(numbers))


def _method(store: MapStore) -> MethodSettings:
    settings: Any = store.about.get("settings")
    kind = METHODS.tag(settings or {})
    if kind not in METHODS.names():
        raise InputError(f"{store.path}: its method '{kind}' is unknown; open it again")
    return validate(METHODS[kind], settings, str(store.path))


def _maps(
    store: MapStore,
    missing: list[int],
    items: Items,
    classifier: AnyClassifier,
    method: MethodSettings,
    classes: NDArray[np.integer[Any]],
) -> Iterator[tuple[list[int], list[Maps]]]:
    """Compute the maps of items, as many at a time as the method wants, model by model."""
    targets = [Target.parse(text) for text in store.targets]
    device = device_of(method.device)
    by_item = dict(zip(store.items, classes.tolist(), strict=True))
    seed = int(store.about[PROVENANCE].get("seed", 0))
    for model, rows in by_model(classifier, [store.items[number] for number in missing]):
        nodes = method.prepared(model.nodes(targets, by_item, device))
        for start in range(0, len(rows), method.items_per_batch):
            numbers = [missing[row] for row in rows[start : start + method.items_per_batch]]
            names = [store.items[number] for number in numbers]
            read = items.read([items.number(name) for name in names], model.slab)
            x = torch.stack([model.standardised(one) for one in torch.from_numpy(read).to(device)])
            seeds = [seed_of(seed, name) for name in names]
            yield numbers, method.maps_of_batch(nodes, x, names, targets, seeds)


def _values(maps: Maps) -> dict[str, NDArray[np.floating]]:
    """Arrays of a store, by name."""
    found = {"relevance": maps.relevance, "stderr": maps.stderr, "prediction": maps.values}
    return {name: one.detach().cpu().numpy() for name, one in {**found, **maps.extras}.items()}
