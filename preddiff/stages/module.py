"""Stage module: store your own network as a classifier."""

import argparse
from pathlib import Path

import torch
from torch import nn

from preddiff import user_code
from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.module import ModuleSettings, build
from preddiff.classifiers.network import prepared
from preddiff.classifiers.networks import TRAINING_SIZE
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import class_names, store_network, store_volume_network
from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, ModuleSettings)
    add_path(parser, "--data", "data store, for networks of volumes", required=False)
    add_path(parser, "--out", "folder for the classifier")


def run(arguments: argparse.Namespace) -> None:
    """Store the network."""
    store_module(read_settings(arguments, ModuleSettings), arguments.out, arguments.data)


def store_module(settings: ModuleSettings, out: Path, data: Path | None = None) -> None:
    """Store a network from a user's Python file as a classifier.

    Parameters
    ----------
    settings : ModuleSettings
    out : Path
        Folder for the classifier.
    data : Path, optional
        Data store of the volumes that it was trained on; without it, it is a network of images.

    Raises
    ------
    InputError
        If the network cannot be built, the weights do not fit, or its output cannot be explained.
    """
    network = build(settings.module)
    if settings.weights is not None:
        load_state_dict(network, read_state_dict(settings.weights), str(settings.weights))
    architecture = {
        "module": str(user_code.file_of(settings.module)),
        "factory": user_code.name_of(settings.module),
        "digest": user_code.digest_of(settings.module),
    }
    problem = settings.problem_of_images() if data is None else settings.problem_of_volumes()
    if problem is not None:
        raise InputError(problem)
    names = class_names(settings)
    if data is not None:
        store_volume_network(network, architecture, settings, names, Items(data), out)
        return
    assert settings.crop is not None and settings.mean is not None and settings.std is not None
    space = (settings.crop, settings.crop)
    store_network(
        network,
        architecture,
        names or _numbers(prepared(network), len(settings.mean), space),
        settings.training_size or TRAINING_SIZE,
        space,
        Standardisation(tuple(settings.mean), tuple(settings.std)),
        out,
        has_probabilities=settings.outputs == "classes",
    )


def _numbers(network: nn.Module, channels: int, space: tuple[int, ...]) -> tuple[str, ...]:
    """Return numbers in place of names, one for each output of the network."""
    with torch.inference_mode():
        try:
            found = network(torch.zeros((2, channels, *space)))
        except Exception as error:
            # The code of a network may raise any exception.
            size = " x ".join(map(str, (channels, *space)))
            raise InputError(f"the network does not accept inputs of {size}: {error}") from error
    count = found.shape[1] if isinstance(found, torch.Tensor) and found.ndim == 2 else 1
    return tuple(str(number) for number in range(count))
