"""Stage open: make the expectation store of an explanation, or keep it if nothing changed."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.files import remove_folder, replace_folder
from preddiff.items import Items
from preddiff.provenance import differences, digest_arrays, digest_code, digest_json
from preddiff.settings import Sampler, WindowSettings
from preddiff.stages.gaussian import DIGEST, load_gaussian
from preddiff.stores import (
    AXES,
    ExpectationStore,
    create,
    expectation_variables,
    open_store,
    provenance_of,
)
from preddiff.targets import Target
from preddiff.windows import Surroundings, Windows


def open_expectations(
    data: Path,
    classifier_folder: Path,
    gaussian: Path | None,
    sampler: Sampler,
    settings: WindowSettings,
    seed: int,
    out: Path,
) -> list[str]:
    """Make an empty expectation store, unless there is one of the same provenance.

    Parameters
    ----------
    data : Path
        Data store.
    classifier_folder : Path
        What the stage train wrote.
    gaussian : Path, optional
        Gaussian store, for conditional samplers.
    sampler : Sampler
    settings : WindowSettings
    seed : int
    out : Path
        Expectation store.

    Returns
    -------
    list of str
        Differences to the store that was there before and was started anew; empty if it was kept
        or there was none.

    Raises
    ------
    InputError
        If the settings do not fit the classifier's input or each other.
    """
    items = Items(data)
    classifier = LinearClassifier.load(classifier_folder)
    names = _chosen(items, settings)
    targets = _targets(settings, classifier)
    windows = Windows(classifier.space, settings.k, settings.stride)
    wanted = _provenance(items, names, classifier, gaussian, sampler, settings, targets, seed)
    if sampler.kind == "conditional":
        _check_surroundings(windows, _required(gaussian), settings)
    if out.exists():
        changed = _changed(out, wanted)
        if not changed:
            return []
        remove_folder(out)
    else:
        changed = []
    with replace_folder(out) as folder:
        create(
            folder,
            expectation_variables(len(names), len(targets), windows, settings.block),
            _coordinates(names, targets, windows, classifier),
            wanted,
            {
                "corner": list(classifier.corner),
                "space": list(classifier.space),
                "k": settings.k,
                "stride": settings.stride,
                "block": settings.block,
                "classes": list(classifier.classes),
                "training_size": classifier.training_size,
                "inputs": {
                    "data": _relative(data, out),
                    "classifier": _relative(classifier_folder, out),
                    "gaussian": None if gaussian is None else _relative(gaussian, out),
                },
            },
        )
    return changed


def _required(gaussian: Path | None) -> Path:
    if gaussian is None:
        raise InputError("a conditional sampler needs a Gaussian store (--gaussian)")
    return gaussian


def _check_surroundings(windows: Windows, gaussian: Path, settings: WindowSettings) -> None:
    fitted = load_gaussian(gaussian)
    if fitted.l != settings.l:
        raise InputError(f"{gaussian} was fitted for l = {fitted.l}, not for l = {settings.l}")
    Surroundings(windows, fitted.l)


def _chosen(items: Items, settings: WindowSettings) -> list[str]:
    if settings.items is None:
        return items.names
    if isinstance(settings.items, int):
        return items.names[: settings.items]
    return [items.names[items.number(name)] for name in settings.items]


def _targets(settings: WindowSettings, classifier: LinearClassifier) -> list[Target]:
    if settings.targets is None:
        return [Target("probability", classifier.classes[1])]
    targets = [Target.parse(text) for text in settings.targets]
    for target in targets:
        if target.label not in classifier.classes:
            raise InputError(
                f"target '{target}' is of neither class: "
                f"the classifier knows {' and '.join(classifier.classes)}"
            )
    return targets


def _provenance(
    items: Items,
    names: list[str],
    classifier: LinearClassifier,
    gaussian: Path | None,
    sampler: Sampler,
    settings: WindowSettings,
    targets: list[Target],
    seed: int,
) -> dict[str, Any]:
    provenance: dict[str, Any] = {
        "sampler": sampler.kind,
        "k": settings.k,
        "stride": settings.stride,
        "estimator": settings.estimator,
        "targets": [str(target) for target in targets],
        "block": settings.block,
        "items": digest_json([(name, items.digests[items.number(name)]) for name in names]),
        "classifier": classifier_digest(classifier),
        "code": engine_digest(),
        "device": "cpu",
    }
    if settings.estimator == "samples":
        provenance |= {"samples": settings.samples, "seed": seed}
    if sampler.kind == "conditional":
        provenance |= {
            "l": settings.l,
            "clip": sampler.clip,
            "gaussian": gaussian_digest(_required(gaussian)),
        }
    else:
        training = np.flatnonzero(items.training)
        provenance["training items"] = digest_json([items.digests[n] for n in training])
    if sampler.kind == "grey":
        provenance["value"] = sampler.value
    return provenance


def engine_digest() -> str:
    """Digest of the code that expectations come from."""
    return digest_code("preddiff.engines.linear")


def classifier_digest(classifier: LinearClassifier) -> str:
    """Digest of all numbers of a classifier that its output depends on."""
    numbers = [classifier.intercept, classifier.training_size, *classifier.corner]
    return digest_arrays(classifier.weights, np.array(numbers, dtype=np.float64))


def gaussian_digest(path: Path) -> str:
    """Digest of a stored Gaussian's means and covariances."""
    return str(open_store(path).attrs[DIGEST])


def _changed(out: Path, wanted: dict[str, Any]) -> list[str]:
    try:
        found = provenance_of(out)
        ExpectationStore(out)
    except InputError as error:
        return [str(error)]
    return differences(found, wanted)


def _coordinates(
    names: list[str], targets: list[Target], windows: Windows, classifier: LinearClassifier
) -> dict[str, tuple[str, Any]]:
    coordinates: dict[str, tuple[str, Any]] = {
        "item": ("item", np.array(names)),
        "target": ("target", np.array([str(target) for target in targets])),
    }
    for axis, starts, corner in zip(AXES, windows.starts, classifier.corner, strict=True):
        coordinates[f"window_{axis}"] = (f"window_{axis}", starts + corner)
    return coordinates


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.resolve(), out.resolve().parent)
