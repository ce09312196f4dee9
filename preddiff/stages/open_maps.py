"""Stage open-maps: make the empty store of maps by a method without windows, or keep it."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from preddiff.classifiers.stored import load_classifier, require_fit
from preddiff.datasets.items import Items
from preddiff.evaluation.predictions import read_predictions
from preddiff.methods.base import METHODS, MethodSettings
from preddiff.methods.selection import (
    about_classifier,
    chosen_items,
    chosen_targets,
    code_of_maps,
    item_digests,
    target_classes,
)
from preddiff.settings.options import add_path, add_seed, add_settings, read_kind
from preddiff.storage.aside import EXPECTATIONS
from preddiff.storage.inputs import Inputs
from preddiff.storage.maps import create_maps, is_store_of_maps
from preddiff.storage.markers import remove_markers
from preddiff.storage.provenance import digest_code, digest_json
from preddiff.storage.shards import Opening, open_or_keep

# Methods that compute the maps of an item directly; others fill an expectation store first.
_DIRECT = METHODS.only(lambda method: not method.redraws_windows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_path(parser, "--classifier", "folder of the classifier")
    add_path(
        parser,
        "--predictions",
        "table of `preddiff predict`, for true and top classes",
        required=False,
    )
    add_settings(parser, _DIRECT, "classifier", "dataset")
    add_path(parser, "--out", "relevance store; kept if it was made by the same settings")
    add_path(parser, "--marker", "file to touch when the store is ready", required=False)
    add_seed(parser)


def run(arguments: argparse.Namespace) -> None:
    """Make or keep the store."""
    method = read_kind(arguments, _DIRECT, classifier=arguments.classifier.name)
    inputs = Inputs(arguments.data, arguments.classifier, predictions=arguments.predictions)
    open_maps(inputs, method, arguments.seed, arguments.out)
    if arguments.marker is not None:
        arguments.marker.parent.mkdir(parents=True, exist_ok=True)
        arguments.marker.touch()


def open_maps(inputs: Inputs, method: MethodSettings, seed: int, out: Path) -> list[str]:
    """Make a store for the maps of a method, unless there is one of the same provenance.

    Results of another provenance are set aside, as by `preddiff open`.

    Parameters
    ----------
    inputs : Inputs
    method : MethodSettings
    seed : int
    out : Path
        Relevance store.

    Returns
    -------
    list of str
        Differences to the store that was there before; empty if it was kept or there was none.

    Raises
    ------
    InputError
        If the settings do not fit the classifier.
    """
    items = Items(inputs.data)
    classifier = load_classifier(inputs.classifier, items, by_fold=method.held_out)
    require_fit(items, classifier)
    names = chosen_items(items, method)
    targets = chosen_targets(method, classifier, method.default_target)
    table = None if inputs.predictions is None else read_predictions(inputs.predictions)
    classes = target_classes(targets, names, classifier, table)
    digests = item_digests(items, names, classes, classifier)
    nodes = classifier.nodes(targets, {})
    if method.named_layers:
        # An unknown layer is reported now, instead of by each job.
        nodes.activations(method.named_layers)
    provenance: dict[str, Any] = {
        **method.about_models,
        **method.provenance(),
        "targets": [str(target) for target in targets],
        "items": digest_json(digests),
        "classifier": classifier.digest,
        "code": digest_code(*code_of_maps(method, classifier)),
    }
    if method.is_random:
        provenance["seed"] = seed
    links = {
        "inputs": inputs.relative_to(out),
        "settings": method.model_dump(mode="json"),
        "seed": seed,
    }
    about = {
        **about_classifier(classifier),
        "shows_evidence": method.shows_evidence,
        **links,
    }
    create = partial(
        create_maps,
        items=names,
        digests=digests,
        targets=provenance["targets"],
        classes=classes,
        extras=method.extras(nodes, (classifier.channels, *classifier.space), len(targets)),
        provenance=provenance,
        about=about,
    )
    is_of_windows = out.exists() and not is_store_of_maps(out)
    changed = open_or_keep(out, Opening(names, provenance, links, create))
    if is_of_windows:
        # If the method that the explanation had before comes back, its relevance has to be computed
        # again: the workflow does so after it has looked for missing expectations.
        remove_markers(out.parent.parent / EXPECTATIONS / out.name)
    return changed
