"""Stage predict: what a network makes of every item, and how often it is right."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from preddiff.classifiers.network import Network
from preddiff.classifiers.stored import require_fit
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.evaluation.predictions import TOP
from preddiff.progress import progress
from preddiff.storage.files import write_atomically

_BATCH = 32


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
    truth = _true_classes(items, network)
    where = device_of(device)
    top = min(TOP, len(network.classes))
    rows = []
    with (
        torch.inference_mode(),
        progress(total=len(items.names), desc="predict", unit="item") as bar,
    ):
        for numbers in np.array_split(np.arange(len(items.names)), -(-len(items.names) // _BATCH)):
            x = torch.from_numpy(items.read(numbers)).to(where)
            logits = network.logits(x).double()
            probabilities = torch.softmax(logits, 1).cpu().numpy()
            if not np.isfinite(probabilities).all():
                raise InputError(f"the network's output is not finite for one of {numbers}")
            for number, p in zip(numbers, probabilities, strict=True):
                rows.append(_row(items.names[number], int(truth[number]), p, network.classes, top))
            bar.update(len(numbers))
    table = pd.DataFrame(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.8g")
    with write_atomically(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(_accuracy(table, items), indent=2) + "\n")


def _true_classes(items: Items, network: Network) -> list[int]:
    if items.classes:
        if len(items.classes) != len(network.classes):
            raise InputError(
                f"{items.path} knows {len(items.classes)} classes, the network "
                f"{len(network.classes)}, so its folders or table do not tell the network's "
                "numbers: name a table of all classes as the dataset's `classes`"
            )
        numbers = list(range(len(items.classes)))
        if set(items.classes) == set(network.classes) and len(set(items.classes)) == len(numbers):
            # The same names, perhaps in another order: folders are numbered by the alphabet.
            numbers = [network.classes.index(name) for name in items.classes]
        return [numbers[number] if number >= 0 else -1 for number in items.class_numbers]
    return [
        _of_label(label, int(number), network)
        for label, number in zip(items.groups, items.class_numbers, strict=True)
    ]


def _of_label(label: str, number: int, network: Network) -> int:
    if not label:
        return -1
    if number >= len(network.classes):
        raise InputError(
            f"class {number} of an item is beyond the network's {len(network.classes)} classes"
        )
    if number >= 0:
        return number
    if re.fullmatch(r"n\d{8}", label):
        raise InputError(
            f"class '{label}' is a WordNet id: name a table of all classes (class_index, wnid, "
            "class_name) as the dataset's `classes`"
        )
    return network.class_number(label)


def _row(
    item: str, truth: int, p: np.ndarray, classes: Sequence[str], top: int
) -> dict[str, object]:
    order = np.argsort(-p, kind="stable")
    row: dict[str, object] = {
        "item": item,
        "class": truth,
        "name": classes[truth] if truth >= 0 else "",
        "rank": int(np.flatnonzero(order == truth)[0]) + 1 if truth >= 0 else "",
        "probability": p[truth] if truth >= 0 else "",
    }
    for rank, number in enumerate(order[:top], start=1):
        row[f"top{rank}"] = int(number)
        row[f"top{rank}_name"] = classes[number]
        row[f"top{rank}_probability"] = p[number]
    return row


def _accuracy(table: pd.DataFrame, items: Items) -> dict[str, object]:
    known = table[table["class"] >= 0]
    ranks = known["rank"].astype(int)
    scores: dict[str, object] = {"items": len(table), "items_of_known_class": len(known)}
    if len(known):
        scores |= {"top1": float((ranks == 1).mean()), "top5": float((ranks <= 5).mean())}
    held_out = ~items.training[known.index.to_numpy()]
    if held_out.any() and not held_out.all():
        scores["top1_of_items_not_for_training"] = float((ranks[held_out] == 1).mean())
    return scores
