"""Tables of text: reading tab- and comma-separated files, with errors that name file and line."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from preddiff.errors import InputError


def read_table(path: Path, *, hint: str = "check the path") -> pd.DataFrame:
    """Read a table whose first line names the columns.

    Parameters
    ----------
    path : Path
        UTF-8 text; separated by commas if its suffix is .csv, by tabs otherwise.
    hint : str
        What to do if there is no such file, for the error message.

    Returns
    -------
    DataFrame of str
        Cells as they are written, "" for those that are missing at the end of a row. The index,
        `line`, is the line of the file as long as no cell spans several. Empty lines are rows of
        "", but for those at the end of the file, which are left out.

    Raises
    ------
    InputError
        If the file is missing, empty or not UTF-8, or if a row has more cells than the header.
    """
    try:
        with warnings.catch_warnings():
            # pandas would cut the rows, or take the first column for an index.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep="," if _is_csv(path) else "\t",
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skip_blank_lines=False,
            )
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; {hint}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not readable as a table: not UTF-8 ({error}); save it as UTF-8 text"
        ) from None
    except pd.errors.EmptyDataError:
        raise InputError(
            f"{path}: not readable as a table: it is empty; its first line names the columns"
        ) from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}{_problem(error)}") from None
    except OSError as error:
        raise InputError(f"{path}: not readable as a table: {error}") from None
    table.index = pd.RangeIndex(2, len(table) + 2, name="line")
    filled = np.flatnonzero((table != "").any(axis=1))
    return table.iloc[: filled[-1] + 1 if len(filled) else 0]


def find_column(table: pd.DataFrame, path: Path, *names: str) -> str:
    """First of the given names that is a column of a table.

    Parameters
    ----------
    table : DataFrame
        As `read_table` returns it.
    path : Path
        The table's file, for the error message.
    *names : str
        Names that the column may have.

    Raises
    ------
    InputError
        If there is none of them.
    """
    found = next((name for name in names if name in table.columns), None)
    if found is not None:
        return found
    message = f"{path}: there is no column '{names[0]}'; it has {', '.join(table.columns)}"
    other = "\t" if _is_csv(path) else ","
    if len(table.columns) == 1 and other in table.columns[0]:
        message += ". A table named .csv is separated by commas, any other by tabs: rename the file"
    raise InputError(message)


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _problem(error: Exception) -> str:
    long_row = re.search(r"Expected \d+ fields in line (\d+)", str(error))
    advice = "quote cells that contain separators, and end no line with one"
    if long_row:
        return f", line {long_row[1]}: the row has more cells than the header: {advice}"
    if isinstance(error, pd.errors.ParserWarning):
        return f": rows have more cells than the header: {advice}"
    return f": not readable as a table: {str(error).strip()}"
