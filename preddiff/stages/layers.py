"""Command layers: list the layers of a network that can be explained."""

import argparse
from pathlib import Path

import torch

from preddiff.classifiers import torchvision
from preddiff.classifiers.layers import list_layers
from preddiff.classifiers.network import Network, prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "classifier", help="folder of a classifier, or name of a network of torchvision"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the layers."""
    print(describe_layers(arguments.classifier))


def describe_layers(classifier: str) -> str:
    """Return a table of the layers that can be explained.

    Parameters
    ----------
    classifier : str
        Folder of a stored network, or name of a network of torchvision.

    Raises
    ------
    InputError
        If there is no such network, or torch.fx cannot trace it.
    """
    if Path(classifier).is_dir():
        stored = Network.load(Path(classifier))
        network, channels, space = stored.module, stored.channels, stored.space
    else:
        preset = torchvision.defaults(classifier)
        network = prepared(torchvision.build(classifier, len(preset.classes)))
        channels, space = len(preset.mean), (preset.crop, preset.crop)
    layers = list_layers(network, torch.zeros((1, channels, *space)))
    width = max(len(layer.name) for layer in layers)
    lines = [f"{'layer':<{width}}  {'maps':>5}  units of a map"]
    for layer in layers:
        units = " x ".join(map(str, layer.space)) or "1"
        lines.append(f"{layer.name:<{width}}  {layer.maps:>5}  {units}")
    lines.append("")
    lines.append(
        "As a target, write layer:NAME for all maps of a layer, or layer:NAME:0,7 for some of them."
    )
    return "\n".join(lines)
