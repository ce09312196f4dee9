"""Stage open: make the expectation store of an explanation, or keep it if nothing changed."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preddiff.classifiers.layers import count_maps
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network
from preddiff.classifiers.stored import Classifier, load_classifier, require_fit
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.predictions import classes_of, read_predictions
from preddiff.settings.study import SamplerSettings, TargetSettings, WindowSettings
from preddiff.stages.gaussian import DIGEST, load_gaussian
from preddiff.storage.aside import has_results, restore, reuse_items, set_aside
from preddiff.storage.expectations import ExpectationStore, expectation_variables
from preddiff.storage.files import replace_folder
from preddiff.storage.inputs import Inputs
from preddiff.storage.locks import exclusive
from preddiff.storage.markers import markers_of
from preddiff.storage.provenance import differences, digest_code, digest_json
from preddiff.storage.stores import (
    axes,
    create,
    open_store,
    provenance_of,
    update_attributes,
)
from preddiff.targets import Target, expand
from preddiff.windows import Surroundings, Windows

# Windows per block unless the settings tell: a few seconds of work for linear classifiers, and
# minutes for networks.
_BLOCK = {"linear": 131_072, "network": 1024}


def open_expectations(
    inputs: Inputs, sampler: SamplerSettings, settings: WindowSettings, seed: int, out: Path
) -> list[str]:
    """Make an expectation store, unless there is one of the same provenance.

    Results of another provenance are set aside; if one of the stores set aside has the wanted
    provenance, it is moved back. Items that are as before keep their results.

    Parameters
    ----------
    inputs : Inputs
    sampler : SamplerSettings
    settings : WindowSettings
    seed : int
    out : Path
        Expectation store.

    Returns
    -------
    list of str
        Differences to the store that was there before; empty if it was kept or there was none.

    Raises
    ------
    InputError
        If the settings do not fit the classifier's input or each other.
    """
    items = Items(inputs.data)
    classifier = load_classifier(inputs.classifier)
    require_fit(items, classifier)
    names = chosen_items(items, settings)
    targets = chosen_targets(settings, classifier)
    classes = target_classes(targets, names, classifier, inputs.predictions)
    digests = item_digests(items, names, classes)
    windows = Windows(classifier.space, settings.k, settings.stride)
    block = settings.block or _BLOCK[kind_of(classifier)]
    wanted = {
        "k": settings.k,
        "stride": settings.stride,
        "targets": [str(target) for target in targets],
        "block": block,
        "items": digest_json(digests),
        "classifier": classifier.digest,
        "code": engine_digest(classifier),
        **_estimator(settings, classifier, seed),
        **_sampler(sampler, inputs, settings, items),
    }
    if sampler.kind == "conditional":
        _check_surroundings(windows, _required(inputs.gaussian), settings, items)
    with exclusive(out):
        changed = _changed(out, wanted) if out.exists() else []
        if out.exists() and not changed:
            # They may lie elsewhere now.
            update_attributes(out, {"inputs": inputs.relative_to(out)})
            return []
        if restore(out, wanted):
            print(f"{out}: results of these settings were set aside; moved back", file=sys.stderr)
            update_attributes(out, {"inputs": inputs.relative_to(out)})
            return changed
        with replace_folder(out) as folder:
            create(
                folder,
                expectation_variables(len(names), len(targets), windows, block),
                {
                    **_coordinates(names, targets, windows, classifier),
                    "class_number": (("item", "target"), classes),
                    "item_digest": ("item", np.array(digests)),
                },
                wanted,
                {
                    **about_classifier(classifier),
                    "k": settings.k,
                    "stride": settings.stride,
                    "block": block,
                    "inputs": inputs.relative_to(out),
                },
            )
            kept = reuse_items(out, folder)
            _remove_markers(out, names, kept)
            if has_results(out, besides=kept):
                print(f"{out}: its results are set aside as {set_aside(out)}", file=sys.stderr)
    return changed


def item_digests(items: Items, names: list[str], classes: NDArray[np.int64]) -> list[str]:
    """Digest of each explained item, of its values, and of its targets' classes."""
    return [
        digest_json((name, items.digests[items.number(name)], [int(c) for c in row]))
        for name, row in zip(names, classes, strict=True)
    ]


def _remove_markers(out: Path, names: list[str], kept: dict[int, int]) -> None:
    """Delete markers of shards that hold other items now."""
    complete = {names[row] for row in kept.values()}
    for path, marker in markers_of(out):
        now = names[marker.first : marker.last] if marker else []
        if not marker or now != list(marker.items) or not complete.issuperset(now):
            path.unlink()


def donors_digest(donors: Items) -> str:
    """Digest of the items that marginal and grey samplers learn from."""
    return digest_json([donors.digests[n] for n in np.flatnonzero(donors.training)])


def kind_of(classifier: Classifier) -> str:
    """Kind of a classifier, `linear` or `network`."""
    return "network" if isinstance(classifier, Network) else "linear"


def engine_digest(classifier: Classifier) -> str:
    """Digest of the code that expectations of a classifier come from."""
    return digest_code(
        f"preddiff.engines.{'incremental.engine' if kind_of(classifier) == 'network' else 'linear'}"
    )


def gaussian_digest(path: Path) -> str:
    """Digest of a stored Gaussian's means and covariances."""
    return str(open_store(path).attrs[DIGEST])


def about_classifier(classifier: Classifier) -> dict[str, Any]:
    """Attributes of a store that tell what the classifier sees and knows."""
    return {
        "corner": list(classifier.corner),
        "space": list(classifier.space),
        "classes": list(classifier.classes),
        "training_size": classifier.training_size,
    }


def chosen_items(items: Items, settings: TargetSettings) -> list[str]:
    """Names of the items that are explained.

    Raises
    ------
    InputError
        If there is no such item.
    """
    if isinstance(settings.items, list):
        return [items.names[items.number(name)] for name in settings.items]
    held_out = ~items.training
    everything = items.are_volumes or not held_out.any()
    names = [n for n, kept in zip(items.names, held_out, strict=True) if kept or everything]
    return names[: settings.items]


def chosen_targets(
    settings: TargetSettings, classifier: LinearClassifier | Network, default: str = "top-1"
) -> list[Target]:
    """Targets that are explained.

    Raises
    ------
    InputError
        If the classifier has no such class or layer.
    """
    if isinstance(classifier, LinearClassifier):
        return [
            Target.parse(text)
            for text in settings.targets or [f"probability:{classifier.classes[1]}"]
        ]
    x = torch.zeros((1, classifier.channels, *classifier.space))
    return expand(
        settings.targets or [f"probability:{default}"],
        lambda layer: count_maps(classifier.module, layer, x),
    )


def target_classes(
    targets: list[Target],
    items: list[str],
    classifier: LinearClassifier | Network,
    predictions: Path | None,
) -> NDArray[np.int64]:
    """Number of each target's class (items, targets); -1 for feature maps.

    Raises
    ------
    InputError
        If there is no such class, or an item's class is not known.
    """
    if isinstance(classifier, LinearClassifier):
        numbers = [classifier.class_number(target.label) for target in targets]
        return np.tile(numbers, (len(items), 1))
    table = None if predictions is None else read_predictions(predictions)
    columns = [classes_of(target, items, classifier.class_number, table) for target in targets]
    if max((number for column in columns for number in column), default=-1) >= len(
        classifier.classes
    ):
        raise InputError(f"{predictions}: its classes are not this network's; run preddiff predict")
    return np.array(columns, dtype=np.int64).T.reshape(len(items), len(targets))


def _required(gaussian: Path | None) -> Path:
    if gaussian is None:
        raise InputError("a conditional sampler needs a Gaussian store (--gaussian)")
    return gaussian


def _check_surroundings(
    windows: Windows, gaussian: Path, settings: WindowSettings, items: Items
) -> None:
    fitted = load_gaussian(gaussian)
    if fitted.l != settings.l:
        raise InputError(f"{gaussian} was fitted for l = {fitted.l}, not for l = {settings.l}")
    if fitted.channels != items.channels:
        raise InputError(
            f"{gaussian} was fitted on items of {fitted.channels} channels, these have "
            f"{items.channels}"
        )
    Surroundings(windows, fitted.l)


def _estimator(
    settings: WindowSettings, classifier: LinearClassifier | Network, seed: int
) -> dict[str, Any]:
    usual = "samples" if isinstance(classifier, Network) else "exact"
    estimator = settings.estimator or usual
    if estimator == "exact":
        if isinstance(classifier, Network):
            raise InputError("networks have no exact form: set the estimator to samples")
        return {"estimator": estimator, "device": "cpu"}
    found: dict[str, Any] = {
        "estimator": estimator,
        "device": "cpu",
        "samples": settings.samples,
        "seed": seed,
    }
    if isinstance(classifier, Network):
        found |= {key: getattr(settings, key) for key in ("device", "engine", "precision")}
    return found


def _sampler(
    sampler: SamplerSettings, inputs: Inputs, settings: WindowSettings, items: Items
) -> dict[str, Any]:
    if sampler.kind == "conditional":
        images = not items.are_volumes
        return {
            "sampler": sampler.kind,
            "l": settings.l,
            "clip": images if sampler.clip is None else sampler.clip,
            "gaussian": gaussian_digest(_required(inputs.gaussian)),
        }
    donors = items if inputs.donors is None else Items(inputs.donors)
    found: dict[str, Any] = {"sampler": sampler.kind, "training items": donors_digest(donors)}
    return found | ({"value": sampler.value} if sampler.kind == "grey" else {})


def _changed(out: Path, wanted: dict[str, Any]) -> list[str]:
    try:
        found = provenance_of(out)
        ExpectationStore(out)
    except InputError as error:
        return [str(error)]
    return differences(found, wanted)


def _coordinates(
    names: list[str], targets: list[Target], windows: Windows, classifier: Classifier
) -> dict[str, tuple[str | tuple[str, ...], Any]]:
    coordinates: dict[str, tuple[str | tuple[str, ...], Any]] = {
        "item": ("item", np.array(names)),
        "target": ("target", np.array([str(target) for target in targets])),
    }
    names_of_axes = axes(len(windows.space))
    for axis, starts, corner in zip(names_of_axes, windows.starts, classifier.corner, strict=True):
        coordinates[f"window_{axis}"] = (f"window_{axis}", starts + corner)
    return coordinates
