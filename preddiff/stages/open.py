"""Stage open: make the empty expectation store of an explanation, or keep it."""

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.classifiers.held_out import read_folds
from preddiff.classifiers.stored import load_classifier, require_fit
from preddiff.datasets.items import Items
from preddiff.evaluation.predictions import read_predictions
from preddiff.methods.prediction_difference import (
    ExpectationSettings,
    code_of_expectations,
    provenance,
)
from preddiff.methods.selection import (
    AnyClassifier,
    about_classifier,
    chosen_items,
    chosen_targets,
    item_digests,
    sources_of,
    target_classes,
    windows_of,
)
from preddiff.samplers.foretold import foretold
from preddiff.samplers.gaussian_store import load_gaussian
from preddiff.settings.options import add_path, add_seed, add_settings, read_settings
from preddiff.storage.expectations import ExpectationStore, expectation_variables
from preddiff.storage.filled import FILLED, MARGINS
from preddiff.storage.inputs import Inputs
from preddiff.storage.levels import LEVELS, LevelStore, level_variables
from preddiff.storage.provenance import digest_code, digest_json
from preddiff.storage.shards import ACCURACY, Opening, open_or_keep
from preddiff.storage.stores import axes, create
from preddiff.targets import Target
from preddiff.windows import Windows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_path(parser, "--classifier", "folder of the classifier")
    add_path(parser, "--gaussian", "Gaussian store, for conditional samplers", required=False)
    add_path(parser, "--donors", "data store that the sampler learns from", required=False)
    add_path(parser, "--predictions", "table of predict, for true and top classes", required=False)
    add_settings(parser, ExpectationSettings)
    add_path(parser, "--out", "expectation store; kept if it was made by the same settings")
    add_path(parser, "--marker", "file to touch when the store is ready", required=False)
    parser.add_argument(
        "--keep-numbers-of",
        metavar="VERSION",
        help="version of preddiff whose expectations are kept although code that can change them "
        "has changed since (default: they are set aside)",
    )
    add_seed(parser)


def run(arguments: argparse.Namespace) -> None:
    """Make or keep the store."""
    inputs = Inputs(
        arguments.data,
        arguments.classifier,
        arguments.gaussian,
        arguments.donors,
        arguments.predictions,
    )
    settings = read_settings(arguments, ExpectationSettings)
    open_expectations(inputs, settings, arguments.seed, arguments.out, arguments.keep_numbers_of)
    warn_of_scale(inputs, settings.windows.k)
    if arguments.marker is not None:
        arguments.marker.parent.mkdir(parents=True, exist_ok=True)
        arguments.marker.touch()


def warn_of_scale(inputs: Inputs, k: int) -> None:
    """Print a warning if windows are foretold so well that maps would show next to nothing."""
    if inputs.gaussian is None:
        return
    warning = foretold(load_gaussian(inputs.gaussian), k).warning
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


@dataclass(frozen=True)
class _Wanted:
    """The store that is wanted.

    Attributes
    ----------
    names, digests : list of str
        Of the items.
    classes : int64 array (items, targets)
    targets : list of Target
    windows : Windows
        Of the items.
    classifier : LinearClassifier or Network
    provenance : dict
    settings : ExpectationSettings
    inputs : dict
        Paths, relative to the store's folder.
    fold : int64 array (items,), optional
        Fold by whose model each item is explained, -1 if by that of all training items; None if
        all are.
    """

    names: list[str]
    digests: list[str]
    classes: NDArray[np.int64]
    targets: list[Target]
    windows: Windows
    classifier: AnyClassifier
    provenance: dict[str, Any]
    settings: ExpectationSettings
    inputs: dict[str, str | None]
    fold: NDArray[np.int64] | None

    @property
    def links(self) -> dict[str, Any]:
        """Attributes that may change without any number changing: places, device, ..."""
        return {"inputs": self.inputs, "settings": self.settings.model_dump(mode="json")}

    @property
    def goal(self) -> dict[str, Any]:
        """Attributes that say when an item is complete."""
        return {} if self.accuracy is None else {ACCURACY: self.accuracy}

    @property
    def accuracy(self) -> float | None:
        """Accuracy that applies; None for blocks of windows that are all drawn alike."""
        return self.settings.windows.accuracy_for(self.classifier)


def open_expectations(
    inputs: Inputs,
    settings: ExpectationSettings,
    seed: int,
    out: Path,
    keep_numbers_of: str | None = None,
) -> list[str]:
    """Make an expectation store, unless there is one of the same provenance.

    Results of another provenance are set aside; if one of the stores set aside has the wanted
    provenance, it is moved back. Items that are as before keep their results.

    Parameters
    ----------
    inputs : Inputs
    settings : ExpectationSettings
    seed : int
    out : Path
        Expectation store.
    keep_numbers_of : str, optional
        Version of preddiff whose store is kept, if it differs in code only.

    Returns
    -------
    list of str
        Differences to the store that was there before; empty if it was kept or there was none.

    Raises
    ------
    InputError
        If the settings do not fit the classifier's input or each other.
    """
    wanted = _wanted(inputs, settings, seed, out)
    opening = Opening(
        wanted.names,
        wanted.provenance,
        wanted.links,
        create=partial(_create, wanted=wanted),
        check=LevelStore if wanted.accuracy else ExpectationStore,
        goal=wanted.goal,
    )
    return open_or_keep(out, opening, keep_numbers_of)


def _wanted(inputs: Inputs, settings: ExpectationSettings, seed: int, out: Path) -> _Wanted:
    items = Items(inputs.data)
    windows = settings.windows
    classifier = load_classifier(inputs.classifier, items, by_fold=windows.held_out)
    require_fit(items, classifier)
    names = chosen_items(items, windows)
    targets = chosen_targets(windows, classifier)
    table = None if inputs.predictions is None else read_predictions(inputs.predictions)
    classes = target_classes(targets, names, classifier, table)
    digests = item_digests(items, names, classes, classifier)
    grid = windows_of(items, classifier, settings)
    made_of = {
        "targets": [str(target) for target in targets],
        "items": digest_json(digests),
        "classifier": classifier.digest,
        "code": digest_code(*code_of_expectations(windows, classifier, settings.sampler)),
        **provenance(windows, classifier, settings.sampler, targets, grid, seed),
        **settings.sampler.provenance(sources_of(inputs, items, classifier, settings, seed)),
    }
    return _Wanted(
        names,
        digests,
        classes,
        targets,
        grid,
        classifier,
        made_of,
        settings,
        inputs.relative_to(out),
        _folds(inputs.classifier, names) if windows.held_out else None,
    )


def _folds(classifier: Path, names: list[str]) -> NDArray[np.int64]:
    fold_of = read_folds(classifier)
    return np.array([fold_of.get(name, -1) for name in names], dtype=np.int64)


def _create(folder: Path, wanted: _Wanted) -> None:
    made_of, sizes = wanted.provenance, (len(wanted.names), len(wanted.targets))
    about = {**about_classifier(wanted.classifier), "k": made_of["k"]}
    if wanted.windows.seen is not None:
        about[MARGINS] = wanted.windows.margins
    coordinates = {
        **_coordinates(wanted),
        "class_number": (("item", "target"), wanted.classes),
        "item_digest": ("item", np.array(wanted.digests)),
        **({} if wanted.fold is None else {"fold": ("item", wanted.fold)}),
    }
    if wanted.accuracy is None:
        block = made_of["block"]
        variables = expectation_variables(*sizes, wanted.windows, block)
        about |= {"stride": made_of["stride"], "block": block}
    else:
        in_two = wanted.settings.windows.in_two_precisions
        variables = level_variables(*sizes, wanted.windows, in_two)
        coordinates["level"] = ("level", np.arange(LEVELS))
        is_random = wanted.settings.sampler.is_random
        about |= {"stride": 1, "is_random": is_random, FILLED: list(variables)}
    create(folder, variables, coordinates, made_of, {**about, **wanted.links, **wanted.goal})


def _coordinates(wanted: _Wanted) -> dict[str, tuple[str | tuple[str, ...], Any]]:
    coordinates: dict[str, tuple[str | tuple[str, ...], Any]] = {
        "item": ("item", np.array(wanted.names)),
        "target": ("target", np.array([str(target) for target in wanted.targets])),
    }
    windows = wanted.windows
    for axis, starts in zip(axes(len(windows.space)), windows.starts, strict=True):
        coordinates[f"window_{axis}"] = (f"window_{axis}", starts)
    return coordinates
