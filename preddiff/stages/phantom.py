"""Stage phantom: simulate a cohort with known lesions, as NIfTI files."""

import argparse

from preddiff.datasets.phantom import Phantom, write_phantom
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, Phantom)
    add_path(parser, "--out", "folder for the cohort")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Simulate the cohort."""
    settings = read_settings(arguments, Phantom)
    write_phantom(
        arguments.out,
        patients=settings.patients,
        controls=settings.controls,
        seed=arguments.seed,
        processes=arguments.threads,
    )
