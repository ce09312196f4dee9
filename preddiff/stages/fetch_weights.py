"""Stage fetch-weights: download torchvision's weights of a network (needs internet access)."""

import argparse
from pathlib import Path

import safetensors.torch

from preddiff.classifiers import torchvision
from preddiff.settings.options import add_path
from preddiff.storage.files import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("name", help="torchvision's name of the network, such as alexnet")
    parser.add_argument(
        "--weights", default="DEFAULT", help="torchvision's name of the weights (default: DEFAULT)"
    )
    add_path(parser, "--out", "file to write (.safetensors)")


def run(arguments: argparse.Namespace) -> None:
    """Download the weights and write them."""
    fetch_weights(arguments.name, arguments.weights, arguments.out)


def fetch_weights(name: str, weights: str, out: Path) -> None:
    """Download torchvision's weights of a network and write them as `.safetensors`.

    Raises
    ------
    InputError
        If there are no such weights, or they cannot be downloaded.
    """
    state = torchvision.download(name, weights)
    with write_atomically(out) as temporary:
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, temporary)
