"""Stage concept-measures: measure an explanation network beside NMF and PCA, on held-out items."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.excitation import Excitation
from preddiff.classifiers.explanation_network import ExplanationTraining
from preddiff.classifiers.network import Network
from preddiff.classifiers.parts import mass_over_parts
from preddiff.classifiers.srae import NAME, ExplanationHead, decoder_of
from preddiff.classifiers.stored import load_classifier, require_fit
from preddiff.datasets.items import Items
from preddiff.devices import use_cores
from preddiff.errors import InputError
from preddiff.evaluation.concept_data import explained_by, read_concept_data
from preddiff.evaluation.concepts import System, baseline, compare_systems
from preddiff.progress import progress
from preddiff.settings.base import validate
from preddiff.settings.options import add_path, add_threads
from preddiff.storage.writers import write_tsv

# Significant digits of the table.
_DIGITS = 6
_BASELINES = ("nmf", "pca")
# Items whose activations are in memory together.
_BATCH = 32

# Layer of the features, or of the activations that they are linear in, and their weights.
Features = tuple[str, Tensor | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store that the explanation network was trained on")
    add_path(parser, "--classifier", "folder of the explanation network")
    add_path(parser, "--out", "table to write (.tsv)")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the table."""
    use_cores(arguments.threads)
    concept_measures(arguments.data, arguments.classifier, arguments.out)


def concept_measures(data: Path, classifier: Path, out: Path) -> None:
    """Measure an explanation network, and NMF and PCA with as many features, on held-out items.

    The baselines are fitted to the same training items, and predict the scores by a linear
    regression on their features.

    Parameters
    ----------
    data : Path
        Data store that it was trained on.
    classifier : Path
        Folder of the explanation network.
    out : Path
        Table to write: one row per system, class and measure (`evaluation.concepts.measure`).

    Raises
    ------
    InputError
        If the folder holds no explanation network.
    """
    items, network = Items(data), load_classifier(classifier)
    path = classifier / "xnn.json"
    if not isinstance(network, Network) or not path.is_file():
        raise InputError(f"{classifier}: not an explanation network")
    require_fit(items, network)
    about = json.loads(path.read_text())
    settings = validate(ExplanationTraining, about["settings"], str(path))
    # The layer itself can have another name now: tracing drops the names of blocks.
    settings = settings.model_copy(update={"layer": f"{NAME}.inputs"})
    with progress(desc="evaluate", unit="item") as bar:
        found = read_concept_data(network, items, settings, about["seed"], bar.update, bar.reset)
    head = network.module.get_submodule(NAME)
    assert isinstance(head, ExplanationHead)
    decoder = decoder_of(head.sizes)
    weights = classifier / "decoder.safetensors"
    load_state_dict(decoder, read_state_dict(weights), str(weights))
    z, y, seed = found.training.activations, found.training.scores, about["seed"] % 2**32
    fitted = {kind: baseline(kind, z, y, head.sizes[-1], seed) for kind in _BASELINES}
    explain: dict[str, Callable[[NDArray[np.float32]], System]] = {
        "srae": partial(explained_by, head, decoder),
        **fitted,
    }
    systems = {name: one(found.held_out.activations) for name, one in explain.items()}
    features: dict[str, Features] = {"srae": (f"{NAME}.features", None)}
    features |= {
        kind: (found.layer, torch.from_numpy(one.model.components_)) for kind, one in fitted.items()
    }
    masses = masses_of(network, items, found.names, features)
    for kind, mass in masses.items():
        # An absent feature is nowhere.
        mass[systems[kind].features == 0] = 0
    names = [network.classes[number] for number in found.classes]
    write_tsv(compare_systems(systems, found.held_out, names, masses), out, digits=_DIGITS)


def masses_of(
    network: Network, items: Items, names: Sequence[str], features: Mapping[str, Features]
) -> dict[str, NDArray[np.float32]]:
    """Compute how much of each feature comes from each part of items, for several systems.

    All systems have the same parts: the units of the maps at which excitation backpropagation from
    the first system's features stops. What is said of NMF's features concerns their components,
    as if they were linear in the activations.

    Parameters
    ----------
    network : Network
    items : Items
    names : sequence of str
        Names of the items.
    features : mapping of str to (str, tensor or None)
        By system: arguments `layer` and `weights` of `mass_over_parts`.

    Returns
    -------
    dict of str to float32 array (items, features, parts)
        Empty, with a message, if excitation backpropagation cannot pass through the network.
    """
    numbers = [items.number(name) for name in names]
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in features}
    stop = None
    try:
        for first in progress(range(0, len(numbers), _BATCH), desc="locality", unit="batch"):
            batch = torch.from_numpy(items.read(numbers[first : first + _BATCH]))
            x = network.standardised(batch)
            if stop is None:
                layer, _ = next(iter(features.values()))
                stop = Excitation(network.module, x[:1], layer).stop
            for name, (layer, weights) in features.items():
                mass = mass_over_parts(network.module, x, layer, weights, stop)
                found[name].append(mass.numpy())
    except InputError as error:
        print(f"locality is not measured: {error}", file=sys.stderr)
        return {}
    return {name: np.concatenate(parts) for name, parts in found.items()}
