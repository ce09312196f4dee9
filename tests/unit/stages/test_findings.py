"""Stage findings: the tables of a study, told in a text; unreadable ones are named."""

import json
from pathlib import Path

import pytest
from docutils.core import publish_parts

from preddiff.errors import InputError
from preddiff.stages.findings import write_findings


def test_text_has_what_was_asked_and_found(tmp_path: Path) -> None:
    cv = tmp_path / "logistic" / "cv.json"
    cv.parent.mkdir()
    cv.write_text(json.dumps({"folds": 5, "items": 20, "accuracy_mean": 0.8, "roc_auc": None}))
    foretold = tmp_path / "foretold.tsv"
    foretold.write_text("explanation\tk\tshare_foretold\twarning\nk1\t1\t0.999\tmuch\n")
    write_findings([cv, foretold], ["k1: logistic on volumes of cohort."], tmp_path / "f.rst")
    html = publish_parts((tmp_path / "f.rst").read_text(), writer_name="html")["html_body"]
    order = ["What was asked", "k1: logistic", "What was found", "accuracy of logistic", "Warnings"]
    places = [html.index(words) for words in order]
    assert places == sorted(places)
    assert "system-message" not in html


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("other.tsv", "", "no table of a study"),
        ("foretold.tsv", "k\n1\n", "cannot be read"),
        ("cv.json", "{", "cannot be read"),
        ("deletion-a-summary.tsv", "", "cannot be read"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        write_findings([tmp_path / name], [], tmp_path / "f.rst")
    assert not (tmp_path / "f.rst").exists()


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"foretold\.tsv"):
        write_findings([tmp_path / "foretold.tsv"], [], tmp_path / "f.rst")
