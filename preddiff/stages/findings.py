"""Stage findings: say in sentences what was asked and what was found."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from preddiff.errors import InputError
from preddiff.evaluation.findings import (
    listed,
    of_concepts,
    of_cross_validation,
    of_deletion,
    of_foretold,
    of_localisation,
    of_predictions,
)
from preddiff.settings.options import add_path
from preddiff.storage.files import write_atomically

_SUMMARY = "-summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "tables",
        type=Path,
        nargs="*",
        help="tables of a study, recognised by their names: cv.json, predictions-*.json, "
        "localisation-*-summary.tsv, deletion-*-summary.tsv, concepts-*.tsv, foretold.tsv",
    )
    parser.add_argument(
        "--asked", action="append", default=[], help="a sentence on what was asked; repeatable"
    )
    add_path(parser, "--out", "text to write (.rst)")


def run(arguments: argparse.Namespace) -> None:
    """Write the text."""
    write_findings(arguments.tables, arguments.asked, arguments.out)


def write_findings(tables: Sequence[Path], asked: Sequence[str], out: Path) -> None:
    """Write what was asked, what was found, and warnings, as reStructuredText.

    Parameters
    ----------
    tables : sequence of Path
    asked : sequence of str
    out : Path

    Raises
    ------
    InputError
        If a table cannot be read, or is of no known kind.
    """
    found: list[str] = []
    warnings: list[str] = []
    for path in tables:
        (warnings if path.stem == "foretold" else found).extend(_sentences(path))
    parts = [("What was asked", asked), ("What was found", found), ("Warnings", warnings)]
    text = "\n".join(
        f"{title}\n{'-' * len(title)}\n\n{listed(sentences)}"
        for title, sentences in parts
        if sentences
    )
    with write_atomically(out) as temporary:
        temporary.write_text(text)


def _sentences(path: Path) -> list[str]:
    """Sentences of one table."""
    try:
        if path.name == "cv.json":
            return of_cross_validation(path.parent.name, json.loads(path.read_text()))
        kind, _, name = path.stem.removesuffix(_SUMMARY).partition("-")
        if kind == "predictions" and path.suffix == ".json":
            return of_predictions(name, json.loads(path.read_text()))
        if kind == "foretold":
            return of_foretold(pd.read_csv(path, sep="\t"))
        of_table: dict[str, Callable[[str, pd.DataFrame], list[str]]] = {
            "localisation": of_localisation,
            "deletion": of_deletion,
            "concepts": of_concepts,
        }
        if kind in of_table:
            return of_table[kind](name, pd.read_csv(path, sep="\t"))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: this table cannot be read ({error})") from None
    raise InputError(f"{path}: no table of a study has this name; see preddiff findings --help")
