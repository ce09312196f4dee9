"""Stage fetch-oasis: download the OASIS cohort (needs internet access)."""

import argparse

from preddiff.datasets.oasis import Oasis, write_oasis
from preddiff.settings.options import add_path, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, Oasis)
    add_path(parser, "--out", "folder for the cohort's table")


def run(arguments: argparse.Namespace) -> None:
    """Download the cohort and write its table."""
    write_oasis(arguments.out, **read_settings(arguments, Oasis).model_dump())
