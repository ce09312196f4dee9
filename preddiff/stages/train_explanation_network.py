"""Stage train-explanation-network: train a network that explains another's scores by features."""

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preddiff.classifiers.checkpoint import write_state_dict
from preddiff.classifiers.explanation_network import ExplanationTraining, describe
from preddiff.classifiers.network import Network, located
from preddiff.classifiers.srae import NAME, attach
from preddiff.classifiers.srae_training import Trained, train
from preddiff.classifiers.stored import load_classifier, require_fit, store_network
from preddiff.datasets.items import Items
from preddiff.devices import use_cores
from preddiff.errors import InputError
from preddiff.evaluation.concept_data import ConceptData, explained_by, read_concept_data
from preddiff.evaluation.concepts import measure
from preddiff.progress import progress
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings
from preddiff.storage.checkpoints import CheckpointFolder
from preddiff.storage.provenance import digest_arrays, digest_code, digest_json, versions
from preddiff.storage.writers import write_json

_CHECKPOINTS = "rounds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store of the items that it is trained on")
    add_path(parser, "--classifier", "folder of the network that it explains")
    add_settings(parser, ExplanationTraining)
    add_path(parser, "--out", "folder for the classifier")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train and store the network."""
    use_cores(arguments.threads)
    train_explanation_network(
        arguments.data,
        arguments.classifier,
        read_settings(arguments, ExplanationTraining),
        arguments.seed,
        arguments.out,
    )


def train_explanation_network(
    data: Path, classifier: Path, settings: ExplanationTraining, seed: int, out: Path
) -> None:
    """Train an explanation network, and store it together with the network that it explains.

    Finished rounds, and the state of the one under way, are kept in the folder `rounds`: a training
    that was killed goes on from there, and gives the same weights.

    Writes `xnn.json` (settings, items, rounds with their losses), `cv.json` (measures on held-out
    items), `decoder.safetensors`, `weights.safetensors` and, last, `classifier.json`.

    Parameters
    ----------
    data : Path
        Data store.
    classifier : Path
        Folder of the network.
    settings : ExplanationTraining
    seed : int
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If the items do not fit the network, a class has too few of them, or the layer has negative
        activations.
    """
    items, network = Items(data), load_classifier(classifier)
    if not isinstance(network, Network):
        raise InputError(f"{classifier}: a linear classifier, which has no layers to explain")
    if hasattr(network.module, NAME):
        raise InputError(
            f"{classifier}: has a module '{NAME}', as explanation networks have; explain the "
            "network that it explains instead"
        )
    require_fit(items, network)
    with progress(desc="evaluate", unit="item") as bar:
        found = read_concept_data(network, items, settings, seed, bar.update, bar.reset)
    trained = _train(found, settings, seed, out)
    names = [network.classes[number] for number in found.classes]
    _write_measures(found, trained, names, out)
    _write_training(found, trained, settings, seed, names, out)
    write_state_dict(trained.decoder, out / "decoder.safetensors")
    base = located(network.architecture, classifier)
    store_network(
        attach(network.module, found.layer, trained.head, found.axes),
        describe(base, found.layer, found.axes, trained.head.sizes, found.classes),
        network.classes,
        network.training_size,
        network.space,
        network.standardisation,
        out,
    )


def _train(found: ConceptData, settings: ExplanationTraining, seed: int, out: Path) -> Trained:
    z, y, own = found.training.activations, found.training.scores, found.training.own
    fingerprint = digest_json(
        [
            settings.model_dump(mode="json"),
            seed,
            digest_arrays(z, y, own),
            digest_code("preddiff.classifiers.srae_training:train"),
            versions(),
        ]
    )
    return train(
        torch.from_numpy(z),
        torch.from_numpy(np.ascontiguousarray(y)),
        torch.from_numpy(own),
        settings.recipe(z.shape[1]),
        seed,
        CheckpointFolder(out / _CHECKPOINTS, fingerprint),
        lambda number, epochs: _bar(number, settings.rounds, epochs),
    )


@contextlib.contextmanager
def _bar(number: int, rounds: int, epochs: int) -> Iterator[Callable[[int], Any]]:
    """Show the progress of a round."""
    name = f"train, round {number + 1} of at most {rounds}"
    with progress(total=epochs, desc=name, unit="epoch") as bar:
        yield bar.update


def _write_measures(found: ConceptData, trained: Trained, names: list[str], out: Path) -> None:
    system = explained_by(trained.head, trained.decoder, found.held_out.activations)
    table = measure(system, found.held_out, names)
    scores: dict[str, Any] = {
        "training_items": len(found.training.logits),
        "held_out_items": len(found.held_out.logits),
    }
    for name, rows in table.groupby("class", sort=False):
        # JSON has no NaN.
        values = zip(rows["measure"], rows["value"], strict=True)
        scores[str(name)] = {key: None if np.isnan(value) else value for key, value in values}
    write_json(scores, out / "cv.json")


def _write_training(
    found: ConceptData,
    trained: Trained,
    settings: ExplanationTraining,
    seed: int,
    names: list[str],
    out: Path,
) -> None:
    about = {
        "settings": json.loads(settings.model_dump_json()),
        "seed": seed,
        "layer": found.layer,
        "classes": dict(zip(map(str, found.classes), names, strict=True)),
        "training_items_of_class": [int(n) for n in found.training.own.sum(0)],
        "rounds": trained.rounds,
        "chosen": trained.chosen,
    }
    write_json(about, out / "xnn.json")
