"""Tables and JSON files: what they hold, and that nothing of a failed write is seen."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from preddiff.storage.writers import write_json, write_tsv


def test_tables_are_text_of_chosen_precision(tmp_path: Path) -> None:
    table = pd.DataFrame({"item": ["a", "b"], "n": [1, 20], "p": [1 / 3, np.nan]}, index=[7, 9])
    write_tsv(table, tmp_path / "new/t.tsv", digits=3)
    assert (tmp_path / "new/t.tsv").read_text() == "item\tn\tp\na\t1\t0.333\nb\t20\t\n"
    write_tsv(table, tmp_path / "t.tsv")
    assert pd.read_csv(tmp_path / "t.tsv", sep="\t")["p"][0] == 1 / 3


def test_json_is_read_back(tmp_path: Path) -> None:
    value = {"classes": ["a", "ü"], "accuracy": 0.1, "n": None}
    write_json(value, tmp_path / "new/v.json")
    text = (tmp_path / "new/v.json").read_text()
    assert json.loads(text) == value and text.endswith("}\n")


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    write_json([1], path)
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]
