"""Tables and JSON files that appear whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from preddiff.storage.files import write_atomically


def beside(table: Path, name: str) -> Path:
    """Path of a table that belongs to another one: `<its name>-<name>.tsv` in the same folder."""
    return table.with_name(f"{table.stem}-{name}.tsv")


def write_tsv(table: pd.DataFrame, path: Path, *, digits: int | None = None) -> None:
    """Write a table, separated by tabs, without its index.

    Parameters
    ----------
    table : DataFrame
    path : Path
    digits : int, optional
        Significant digits of numbers that are not whole; all that they have by default.
    """
    with write_atomically(path) as temporary:
        float_format = None if digits is None else f"%.{digits}g"
        table.to_csv(temporary, sep="\t", index=False, float_format=float_format)


def write_json(value: Any, path: Path) -> None:
    """Write a value as indented JSON."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")
