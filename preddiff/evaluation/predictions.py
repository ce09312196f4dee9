"""Predictions: a network's table of top classes."""

from pathlib import Path

import pandas as pd

from preddiff.errors import InputError

# Classes that are listed for each item.
TOP = 10


def read_predictions(path: Path) -> pd.DataFrame:
    """Read what `predict` wrote, by item.

    Raises
    ------
    InputError
        If there is no such table.
    """
    try:
        return pd.read_csv(path, sep="\t", dtype={"item": str}, keep_default_na=False).set_index(
            "item"
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of predictions; run preddiff predict") from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table that preddiff predict wrote ({error})") from None
