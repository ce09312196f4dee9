"""Stage photographs: write photographs that come with scikit-image and scikit-learn."""

import argparse

from preddiff.datasets.photographs import PhotographSettings, write_photographs
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, PhotographSettings)
    add_path(parser, "--out", "folder for the photographs and their sheet")


def run(arguments: argparse.Namespace) -> None:
    """Write the photographs and their sheet."""
    write_photographs(arguments.out, read_settings(arguments, PhotographSettings))
