"""Stage torchvision: store a network of torchvision as a classifier."""

import argparse
from pathlib import Path

from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import class_names, store_network
from preddiff.classifiers.torchvision import TorchvisionSettings, build, translate
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, TorchvisionSettings)
    add_path(
        parser,
        "--state-dict",
        "weights that fetch-weights wrote; default: the key `weights`",
        required=False,
    )
    add_path(parser, "--out", "folder for the classifier")


def run(arguments: argparse.Namespace) -> None:
    """Store the network."""
    settings = read_settings(arguments, TorchvisionSettings)
    store_torchvision(settings, arguments.state_dict or Path(settings.weights), arguments.out)


def store_torchvision(settings: TorchvisionSettings, weights: Path, out: Path) -> None:
    """Store a network of torchvision as a classifier.

    Parameters
    ----------
    settings : TorchvisionSettings
    weights : Path
        State dict that `fetch-weights` wrote, or the user's.
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If the weights do not fit the network, or its output cannot be explained.
    """
    preset = settings.preset
    classes = class_names(settings) or preset.classes
    network = build(settings.name, len(classes))
    load_state_dict(network, translate(read_state_dict(weights)), str(weights))
    side = settings.crop or preset.crop
    store_network(
        network,
        {"torchvision": settings.name},
        classes,
        settings.training_size,
        (side, side),
        Standardisation(tuple(settings.mean or preset.mean), tuple(settings.std or preset.std)),
        out,
    )
