"""Stage foretold: list how much of the windows of explanations their surroundings foretell."""

import argparse
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from preddiff.errors import InputError
from preddiff.evaluation.scales import DIGITS, table_of_scales
from preddiff.progress import progress
from preddiff.samplers.foretold import foretold
from preddiff.samplers.gaussian_store import load_gaussian
from preddiff.settings.options import add_path
from preddiff.storage.writers import write_tsv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--explanation",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "K", "GAUSSIAN"),
        help="an explanation, the side of its windows and its Gaussian store; repeated for others",
    )
    add_path(parser, "--out", "table to write (.tsv); a row per explanation, with a warning")


def run(arguments: argparse.Namespace) -> None:
    """Write the table."""
    write_foretold(arguments.explanation, arguments.out)


def write_foretold(explanations: Sequence[Sequence[str]], out: Path) -> None:
    """Write the table of explanations, each with a warning if its windows are foretold too well.

    Parameters
    ----------
    explanations : sequence of (str, str, str)
        Name, side k and Gaussian store of each, whose surroundings are those of the Gaussian.
    out : Path

    Raises
    ------
    InputError
        If a side is not a number, or there is no such store.
    """
    load = lru_cache(maxsize=1)(load_gaussian)
    found = {}
    for name, k, path in progress(explanations, desc="scales", unit="explanation"):
        if not k.isdecimal():
            raise InputError(f"--explanation {name} {k}: K is the side of the windows, a number")
        found[name] = foretold(load(Path(path)), int(k))
    table = table_of_scales(list(found.values()))
    table.insert(0, "explanation", list(found))
    table["warning"] = [one.warning for one in found.values()]
    write_tsv(table, out, digits=DIGITS)
    for name, one in found.items():
        if one.warning:
            print(f"warning: explanation '{name}': {one.warning}", file=sys.stderr)
