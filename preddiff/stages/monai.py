"""Stage monai: store a network of MONAI as a classifier."""

import argparse
from pathlib import Path

from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.monai import MonaiSettings, build, complete, description
from preddiff.classifiers.stored import names_of_outputs, store_volume_network
from preddiff.datasets.items import Items
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store of the volumes that it was trained on")
    add_settings(parser, MonaiSettings)
    add_path(parser, "--out", "folder for the classifier")


def run(arguments: argparse.Namespace) -> None:
    """Store the network."""
    store_monai(arguments.data, read_settings(arguments, MonaiSettings), arguments.out)


def store_monai(data: Path, settings: MonaiSettings, out: Path) -> None:
    """Store a network of MONAI as a classifier.

    Parameters
    ----------
    data : Path
        Data store of the volumes that it was trained on.
    settings : MonaiSettings
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If there is no such network, the weights do not fit, or its output cannot be explained.
    """
    items = Items(data)
    names = names_of_outputs(items, settings.outputs)
    arguments = complete(settings.network, settings.arguments, items.channels, len(names))
    network = build(settings.network, arguments)
    load_state_dict(network, read_state_dict(settings.weights), str(settings.weights))
    about = description(settings.network, arguments)
    store_volume_network(network, about, settings, names, items, out)
