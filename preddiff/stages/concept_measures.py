"""Stage concept-measures: measure an explanation network beside NMF and PCA, on held-out items."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.explanation_network import ExplanationTraining
from preddiff.classifiers.network import Network
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
    settings = settings.model_copy(update={"layer": about["layer"]})
    with progress(desc="evaluate", unit="item") as bar:
        found = read_concept_data(network, items, settings, about["seed"], bar.update, bar.reset)
    head = network.module.get_submodule(NAME)
    assert isinstance(head, ExplanationHead)
    decoder = decoder_of(head.sizes)
    weights = classifier / "decoder.safetensors"
    load_state_dict(decoder, read_state_dict(weights), str(weights))
    z, y, seed = found.training.activations, found.training.scores, about["seed"] % 2**32
    explain: dict[str, Callable[[NDArray[np.float32]], System]] = {
        "srae": partial(explained_by, head, decoder)
    }
    explain |= {kind: baseline(kind, z, y, head.sizes[-1], seed) for kind in _BASELINES}
    systems = {name: one(found.held_out.activations) for name, one in explain.items()}
    names = [network.classes[number] for number in found.classes]
    write_tsv(compare_systems(systems, found.held_out, names), out, digits=_DIGITS)
