"""Stages fetch-weights, torchvision, module, train-digits and layers: networks as classifiers."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from preddiff.classifiers import digits, module, torchvision
from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.layers import list_layers
from preddiff.classifiers.network import Network, check, prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.datasets.images import read_classes
from preddiff.datasets.items import Items
from preddiff.devices import use_cores
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.settings.study import (
    DigitTraining,
    ModuleSettings,
    NetworkSettings,
    TorchvisionSettings,
)
from preddiff.storage.files import write_atomically
from preddiff.storage.provenance import digest_file


def fetch_weights(name: str, weights: str, out: Path) -> None:
    """Fetch torchvision's weights of a network and write them as `.safetensors`.

    Raises
    ------
    InputError
        If there are no such weights, or no network.
    """
    state = torchvision.download(name, weights)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as temporary:
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, temporary)


def store_torchvision(settings: TorchvisionSettings, weights: Path, out: Path) -> None:
    """Store a network of torchvision as a classifier, with everything that explaining it needs.

    Parameters
    ----------
    settings : TorchvisionSettings
    weights : Path
        State dict: what `fetch_weights` wrote, or the user's.
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If the weights do not fit the network, or its output cannot be explained.
    """
    # Weights of one's own are prepared for as the network's usual ones, unless settings differ.
    own = Path(settings.weights).suffix != ""
    usual = torchvision.defaults(settings.name, "DEFAULT" if own else settings.weights)
    classes = _classes(settings) or usual.classes
    network = torchvision.build(settings.name, len(classes))
    load_state_dict(network, torchvision.translate(read_state_dict(weights)), str(weights))
    crop = settings.crop or usual.crop
    standardisation = Standardisation(
        tuple(settings.mean or usual.mean), tuple(settings.std or usual.std)
    )
    architecture = {"torchvision": settings.name}
    _store(network, architecture, classes, settings.training_size, crop, standardisation, out)


def store_module(settings: ModuleSettings, out: Path) -> None:
    """Store a network of the user's own as a classifier.

    Parameters
    ----------
    settings : ModuleSettings
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If the network cannot be made, the weights do not fit, or its output cannot be explained.
    """
    file, _, factory = settings.module.rpartition(":")
    network = module.build(Path(file), factory)
    if settings.weights is not None:
        load_state_dict(network, read_state_dict(settings.weights), str(settings.weights))
    assert settings.crop is not None and settings.mean is not None and settings.std is not None
    standardisation = Standardisation(tuple(settings.mean), tuple(settings.std))
    space = (settings.crop, settings.crop)
    classes = _classes(settings) or _numbers(prepared(network), len(settings.mean), space)
    architecture = {"module": file, "factory": factory, "digest": digest_file(Path(file))}
    _store(
        network, architecture, classes, settings.training_size, settings.crop, standardisation, out
    )


def train_digits(data: Path, settings: DigitTraining, seed: int, threads: int, out: Path) -> None:
    """Train the network for the digits, and report its accuracy on the test items.

    Writes `cv.json` with the accuracies, the weights and, last, `classifier.json`.

    Parameters
    ----------
    data : Path
        Data store of digits.
    settings : DigitTraining
    seed, threads : int
    out : Path
        Folder for the classifier.
    """
    use_cores(threads)
    items = Items(data)
    x = items.read(range(len(items.names)))
    training = x[items.training]
    standardisation = Standardisation((float(training.mean()),), (float(training.std()),))
    inputs = standardisation.image(torch.from_numpy(x)).numpy()
    with progress(total=settings.epochs, desc="train", unit="epoch") as bar:
        network = digits.train(
            inputs[items.training],
            items.class_numbers[items.training],
            width=settings.width,
            epochs=settings.epochs,
            seed=seed,
            progress=bar.update,
        )
    with torch.inference_mode():
        predicted = network(torch.from_numpy(inputs)).argmax(1).numpy()
    correct = predicted == items.class_numbers
    training_size = int(items.training.sum())
    scores = {
        "training_items": training_size,
        "training_accuracy": float(correct[items.training].mean()),
        "test_items": int((~items.training).sum()),
        "test_accuracy": float(correct[~items.training].mean()),
    }
    out.mkdir(parents=True, exist_ok=True)
    with write_atomically(out / "cv.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=2) + "\n")
    _store(
        network,
        {"digits": settings.width},
        items.classes,
        training_size,
        x.shape[-1],
        standardisation,
        out,
    )


def describe_layers(classifier: str) -> str:
    """Table of the layers that can be named as targets.

    Parameters
    ----------
    classifier : str
        Folder of a stored network, or torchvision's name of one.

    Raises
    ------
    InputError
        If there is no such network, or torch.fx cannot trace it.
    """
    if Path(classifier).is_dir():
        stored = Network.load(Path(classifier))
        network, channels, space = stored.module, stored.channels, stored.space
    else:
        usual = torchvision.defaults(classifier)
        network = prepared(torchvision.build(classifier, len(usual.classes)))
        channels, space = len(usual.mean), (usual.crop, usual.crop)
    layers = list_layers(network, torch.zeros((1, channels, *space)))
    width = max(len(layer.name) for layer in layers)
    lines = [f"{'layer':<{width}}  {'maps':>5}  units of a map"]
    for layer in layers:
        units = " x ".join(map(str, layer.space)) or "1"
        lines.append(f"{layer.name:<{width}}  {layer.maps:>5}  {units}")
    lines.append("")
    lines.append(
        "Name one as a target, as layer:NAME for all of its maps or layer:NAME:0,7 for some."
    )
    return "\n".join(lines)


def _classes(settings: NetworkSettings) -> tuple[str, ...]:
    return () if settings.classes is None else read_classes(settings.classes).names


def _numbers(network: nn.Module, channels: int, space: tuple[int, ...]) -> tuple[str, ...]:
    """Numbers in place of names, as many as the network has outputs."""
    with torch.inference_mode():
        try:
            found = network(torch.zeros((2, channels, *space)))
        except Exception as error:
            # AssertionError, IndexError, ...: whatever the network's own code raises.
            size = " x ".join(map(str, (channels, *space)))
            raise InputError(f"the network does not take {size} inputs: {error}") from error
    count = found.shape[1] if isinstance(found, torch.Tensor) and found.ndim == 2 else 1
    return tuple(str(number) for number in range(count))


def _store(
    network: nn.Module,
    architecture: Mapping[str, object],
    classes: tuple[str, ...],
    training_size: int,
    side: int,
    standardisation: Standardisation,
    out: Path,
) -> None:
    if len(standardisation.mean) != len(standardisation.std) or not np.all(standardisation.std):
        raise InputError("mean and std need one number for each channel, std none that is 0")
    stored = Network(
        prepared(network), architecture, classes, training_size, (side, side), standardisation
    )
    check(stored)
    stored.save(out)
