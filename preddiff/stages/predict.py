"""Stage predict: classify all items with a network, and say how often it is right."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from preddiff.classifiers.network import Network
from preddiff.classifiers.stored import require_fit
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.evaluation.predictions import accuracy, prediction_rows, true_classes
from preddiff.progress import progress
from preddiff.settings.options import add_device, add_path, add_threads
from preddiff.storage.writers import write_json, write_tsv

_BATCH = 32
# Significant digits of the table.
_DIGITS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_path(parser, "--classifier", "folder of the classifier")
    add_device(parser)
    add_threads(parser)
    add_path(parser, "--out", "table to write (.tsv); the accuracy is written beside it (.json)")


def run(arguments: argparse.Namespace) -> None:
    """Classify the items."""
    predict(
        arguments.data, arguments.classifier, arguments.device, arguments.threads, arguments.out
    )


def predict(data: Path, classifier_folder: Path, device: str, threads: int, out: Path) -> None:
    """Classify every item of a data store.

    Writes a table with one row per item: its true class (-1 if unknown), that class's rank and
    probability, and the top classes with their names and probabilities; and beside it, as `.json`,
    the share of items whose true class is the top one, or among the top five.

    Raises
    ------
    InputError
        If the items do not fit the network, or their classes are not the network's.
    """
    use_cores(threads)
    items, network = Items(data), Network.load(classifier_folder)
    require_fit(items, network)
    try:
        truth = true_classes(
            items.names, items.groups, items.class_numbers, items.classes, network.classes
        )
    except InputError as error:
        raise InputError(f"{data}: {error}") from None
    where = device_of(device)
    rows = []
    with (
        torch.inference_mode(),
        progress(total=len(items.names), desc="predict", unit="item") as bar,
    ):
        for numbers in np.array_split(np.arange(len(items.names)), -(-len(items.names) // _BATCH)):
            x = torch.from_numpy(items.read(numbers)).to(where)
            logits = network.logits(x).double()
            probabilities = torch.softmax(logits, 1).cpu().numpy()
            names = [items.names[number] for number in numbers]
            _require_finite(names, probabilities)
            rows += prediction_rows(names, truth[numbers], probabilities, network.classes)
            bar.update(len(numbers))
    table = pd.DataFrame(rows)
    write_tsv(table, out, digits=_DIGITS)
    write_json(accuracy(table, items.training), out.with_suffix(".json"))


def _require_finite(items: Sequence[str], probabilities: NDArray[np.floating]) -> None:
    for item, p in zip(items, probabilities, strict=True):
        if not np.isfinite(p).all():
            raise InputError(
                f"item '{item}': the network's output is NaN or infinite; check its weights"
            )
