"""Command prune: list the stores of a study that were set aside, and delete them."""

import argparse
from pathlib import Path

from preddiff.errors import InputError
from preddiff.storage.aside import KINDS, delete, freed_by_deleting, size_of, stores_aside


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "study", type=Path, metavar="STUDY", help="folder of the study, results/<study>"
    )
    parser.add_argument(
        "--yes", action="store_true", help="delete them; otherwise they are only listed"
    )


def run(arguments: argparse.Namespace) -> None:
    """List the stores that were set aside in a study, and delete them on demand.

    Raises
    ------
    InputError
        If the folder is none of a study.
    """
    study = arguments.study
    if not any((study / kind).is_dir() for kind in KINDS):
        raise InputError(
            f"{study}: not the folder of a study whose explanations were started, such as "
            "results/phantom"
        )
    stores = stores_aside(study)
    if not stores:
        print(f"{study}: no stores are set aside")
        return
    freed = freed_by_deleting(one.path for one in stores)
    for one in stores:
        print(f"{one.path}, {size_of([one.path]) / 1e6:,.1f} MB")
        if arguments.yes:
            delete(one)
    if arguments.yes:
        print(f"deleted; {freed / 1e6:,.1f} MB are free again")
    else:
        print(f"with --yes these are deleted, which frees {freed / 1e6:,.1f} MB")
