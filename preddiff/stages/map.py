"""Stage map: compute the maps of a method that does not redraw windows."""

import argparse
from pathlib import Path

import numpy as np
import torch
import zarr

from preddiff.classifiers.stored import load_classifier, require_fit
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.evaluation.predictions import read_predictions
from preddiff.methods.base import METHODS, MethodSettings
from preddiff.methods.selection import (
    about_classifier,
    chosen_items,
    chosen_targets,
    target_classes,
)
from preddiff.progress import progress
from preddiff.settings.options import add_device, add_path, add_settings, add_threads, read_kind
from preddiff.storage.files import replace_folder
from preddiff.storage.inputs import Inputs
from preddiff.storage.provenance import digest_json
from preddiff.storage.relevance import create_relevance
from preddiff.storage.stores import array

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
    add_device(parser)
    add_threads(parser)
    add_path(parser, "--out", "relevance store to write")


def run(arguments: argparse.Namespace) -> None:
    """Compute the maps."""
    use_cores(arguments.threads)
    method = read_kind(arguments, _DIRECT, classifier=arguments.classifier.name)
    inputs = Inputs(arguments.data, arguments.classifier, predictions=arguments.predictions)
    compute_maps(inputs, method, arguments.device, arguments.out)


def compute_maps(inputs: Inputs, method: MethodSettings, device: str, out: Path) -> None:
    """Compute the maps of items, and write them as `relevance` and `stderr` (item, target, *space).

    Parameters
    ----------
    inputs : Inputs
    method : MethodSettings
    device : {"auto", "cpu", "cuda"}
    out : Path
        Relevance store to write; it appears when it is complete.

    Raises
    ------
    InputError
        If the settings do not fit the classifier, or a map is not finite.
    """
    items, classifier = Items(inputs.data), load_classifier(inputs.classifier)
    require_fit(items, classifier)
    names = chosen_items(items, method)
    targets = chosen_targets(method, classifier, method.default_target)
    table = None if inputs.predictions is None else read_predictions(inputs.predictions)
    classes = target_classes(targets, names, classifier, table)
    where = device_of(device)
    nodes = classifier.nodes(targets, dict(zip(names, classes.tolist(), strict=True)), where)
    values = np.empty((len(names), len(targets)), dtype=np.float32)
    with replace_folder(out) as folder:
        create_relevance(
            folder,
            names,
            [str(target) for target in targets],
            classes,
            values,
            {
                "method": METHODS.name_of(type(method)),
                "classifier": classifier.digest,
                "items": digest_json([items.digests[items.number(name)] for name in names]),
                **method.provenance(),
            },
            {
                **about_classifier(classifier),
                "k": 1,
                "inputs": inputs.relative_to(out),
                "shows_evidence": method.shows_evidence,
            },
        )
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        for row, name in enumerate(progress(names, desc="map", unit="item")):
            item = torch.from_numpy(items.read([items.number(name)], classifier.slab)[0]).to(where)
            found = method.maps(nodes, classifier.standardised(item), name, targets, 0)
            if not (found.relevance.isfinite().all() and found.stderr.isfinite().all()):
                raise InputError(f"item '{name}': its map is not finite")
            values[row] = found.values.cpu().numpy()
            for kind in ("relevance", "stderr"):
                maps = getattr(found, kind).cpu().numpy().astype(np.float32)
                array(group, kind)[row] = maps
        array(group, "prediction")[:] = values
