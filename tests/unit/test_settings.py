"""Settings: validation, documentation in step, and command-line options in both directions."""

import argparse
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.errors import InputError
from preddiff.settings import study as settings
from preddiff.settings.options import add_options, read_options, write_options

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["config.yaml", "mri.yaml", "oasis.yaml"])
def test_configurations_that_come_with_the_project_are_valid(name: str) -> None:
    settings.load(ROOT / "config" / name)


def test_schema_and_documentation_are_in_step() -> None:
    schema = json.loads((ROOT / "workflow/schemas/study.schema.json").read_text())
    assert schema == json.loads(json.dumps(settings.Study.model_json_schema()))
    assert (ROOT / "config/README.md").read_text().endswith(settings.document())


def round_trip(value: settings.Settings) -> settings.Settings:
    parser = argparse.ArgumentParser()
    add_options(parser, type(value))
    return read_options(parser.parse_args(shlex.split(write_options(value))), type(value))


names = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1).filter(
    lambda text: not text.startswith("-") and text.strip()
)


@given(names, names, st.booleans(), st.one_of(st.none(), names))
def test_columns_survive_the_command_line(
    subject: str, group: str, balance: bool, truth: str | None
) -> None:
    value = settings.Columns(
        subject=subject, group=group, balance=balance, truth=truth, classes=("a b", "c';d")
    )
    assert round_trip(value) == value


@pytest.mark.parametrize("C", [1.0, [0.5], [0.1, 1.0, 10.0]])
def test_one_or_several_penalties_survive_the_command_line(C: float | list[float]) -> None:
    found = round_trip(settings.Logistic(C=C)).C
    assert found == C or [found] == C


@pytest.mark.parametrize("items", [None, 3, ["sub-1", "sub-2"], ["sub-1"]])
def test_items_survive_the_command_line(items: object) -> None:
    value = settings.WindowSettings(items=items, targets=["probability:a b"])
    assert round_trip(value) == value


@pytest.mark.parametrize("text", ["study: [", "", "- a"])
def test_files_that_hold_no_configuration_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml"):
        settings.load(path)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file"):
        settings.load(tmp_path / "none.yaml")
