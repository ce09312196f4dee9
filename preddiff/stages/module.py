"""Stage module: store your own network as a classifier."""

import argparse
from pathlib import Path

import torch
from torch import nn

from preddiff import user_code
from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.module import ModuleSettings, build
from preddiff.classifiers.network import prepared
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import class_names, store_network
from preddiff.errors import InputError
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, ModuleSettings)
    add_path(parser, "--out", "folder for the classifier")


def run(arguments: argparse.Namespace) -> None:
    """Store the network."""
    store_module(read_settings(arguments, ModuleSettings), arguments.out)


def store_module(settings: ModuleSettings, out: Path) -> None:
    """Store a network from a user's Python file as a classifier.

    Parameters
    ----------
    settings : ModuleSettings
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If the network cannot be built, the weights do not fit, or its output cannot be explained.
    """
    network = build(settings.module)
    if settings.weights is not None:
        load_state_dict(network, read_state_dict(settings.weights), str(settings.weights))
    assert settings.crop is not None and settings.mean is not None and settings.std is not None
    space = (settings.crop, settings.crop)
    architecture = {
        "module": str(user_code.file_of(settings.module)),
        "factory": user_code.name_of(settings.module),
        "digest": user_code.digest_of(settings.module),
    }
    store_network(
        network,
        architecture,
        class_names(settings) or _numbers(prepared(network), len(settings.mean), space),
        settings.training_size,
        space,
        Standardisation(tuple(settings.mean), tuple(settings.std)),
        out,
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
