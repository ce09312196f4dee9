"""Stage predict: classify all items with a network, and say how often it is right."""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.classifiers.held_out import by_model
from preddiff.classifiers.network import Network
from preddiff.classifiers.readout import probabilities
from preddiff.classifiers.stored import load_network, require_fit
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.evaluation.predictions import (
    accuracy,
    agreement,
    prediction_rows,
    true_classes,
    value_rows,
)
from preddiff.progress import progress
from preddiff.settings.options import add_device, add_path, add_threads
from preddiff.storage.writers import write_json, write_tsv

# Largest number of items, and of their voxels, that are classified at a time.
_BATCH = 32
_VOXELS = 2**23
# Significant digits of the table.
_DIGITS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_path(parser, "--classifier", "folder of the classifier")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="classify each training item by the network of its fold, which has not seen it",
    )
    add_device(parser)
    add_threads(parser)
    add_path(parser, "--out", "table to write (.tsv); the accuracy is written beside it (.json)")


def run(arguments: argparse.Namespace) -> None:
    """Classify the items."""
    predict(
        arguments.data,
        arguments.classifier,
        arguments.device,
        arguments.threads,
        arguments.out,
        held_out=arguments.held_out,
    )


def predict(
    data: Path,
    classifier_folder: Path,
    device: str,
    threads: int,
    out: Path,
    *,
    held_out: bool = False,
) -> None:
    """Predict the class, or the value, of every item of a data store.

    Writes a table with one row per item: its true class (-1 if unknown), that class's rank and
    probability, and the top classes with their names and probabilities; and beside it, as `.json`,
    the share of items whose true class is the top one, or among the top five. For networks that
    predict a value: the true value, the prediction and its error; and mean errors and correlation.

    Parameters
    ----------
    data, classifier_folder : Path
    device : {"auto", "cpu", "cuda"}
    threads : int
    out : Path
        Table to write (.tsv).
    held_out : bool
        Whether training items are seen by the networks of the folds that held them out.

    Raises
    ------
    InputError
        If the items do not fit the network, their classes are not the network's, or there are no
        networks of folds.
    """
    use_cores(threads)
    items = Items(data)
    network = load_network(classifier_folder, items, by_fold=held_out)
    require_fit(items, network)
    rows, scores = (_classes if network.has_probabilities else _values)(items, network, device)
    write_tsv(pd.DataFrame(rows), out, digits=_DIGITS)
    write_json(scores, out.with_suffix(".json"))


def _classes(
    items: Items, network: Network, device: str
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Rows of the table of classes, and the accuracy."""
    try:
        truth = true_classes(
            items.names, items.groups, items.class_numbers, items.classes, network.classes
        )
    except InputError as error:
        raise InputError(f"{items.path}: {error}") from None
    rows: list[dict[str, object]] = []
    for numbers, outputs in _outputs(items, network, device_of(device)):
        names = [items.names[number] for number in numbers]
        found = probabilities(outputs).cpu().numpy()
        _require_finite(names, found)
        rows += prediction_rows(names, truth[numbers], found, network.classes)
    return rows, accuracy(pd.DataFrame(rows), items.training)


def _values(
    items: Items, network: Network, device: str
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Rows of the table of values, and how well they agree with the true ones."""
    # Numbers of another kind would not be comparable with the last value, which is explained.
    is_same = items.value_name in network.classes
    column = network.classes.index(items.value_name) if is_same else -1
    parts = [found[:, column].cpu() for _, found in _outputs(items, network, device_of(device))]
    predicted = torch.cat(parts).numpy()
    _require_finite(items.names, predicted[:, None])
    truth = items.values if is_same else np.full(len(predicted), np.nan)
    rows = value_rows(items.names, truth, predicted)
    return rows, agreement(truth, predicted, items.training)


@torch.inference_mode()
def _outputs(
    items: Items, network: Network, device: torch.device
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield numbers of some items at a time, and the network's float64 outputs for them."""
    size = max(1, min(_BATCH, _VOXELS // (network.channels * math.prod(network.space))))
    everything = np.arange(len(items.names))
    with progress(total=len(everything), desc="predict", unit="item") as bar:
        for numbers in np.array_split(everything, -(-len(everything) // size)):
            x = torch.from_numpy(items.read(numbers, network.slab)).to(device)
            groups = by_model(network, [items.names[number] for number in numbers])
            found = torch.cat([one.logits(x[rows]).double() for one, rows in groups])
            order = [row for _, rows in groups for row in rows]
            yield numbers, found[np.argsort(order)]
            bar.update(len(numbers))


def _require_finite(items: Sequence[str], outputs: NDArray[np.floating]) -> None:
    for item, values in zip(items, outputs, strict=True):
        if not np.isfinite(values).all():
            raise InputError(
                f"item '{item}': the network's output is NaN or infinite; check its weights"
            )
