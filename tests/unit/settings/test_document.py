"""config/README.md and the schema are in step with the settings."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from preddiff.settings import document

ROOT = Path(__file__).parents[3]
REMEDY = "run `python -m preddiff.settings.document`"
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


def test_documentation_is_in_step() -> None:
    assert (ROOT / document.README).read_text().endswith(document.tables()), REMEDY


def test_schema_is_in_step() -> None:
    assert (ROOT / document.SCHEMA).read_text() == document.schema(), REMEDY


def test_writing_keeps_the_text_before_the_tables(tmp_path: Path) -> None:
    for name in (document.README, document.SCHEMA):
        (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / document.README).write_text("# Mine\n\nText.\n\n## The study\n\nold tables\n")
    document.write(tmp_path)
    assert (tmp_path / document.README).read_text() == "# Mine\n\nText.\n\n" + document.tables()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_editors_find_the_schema_and_accept_what_comes_with_the_project(path: Path) -> None:
    first, *_ = path.read_text().splitlines()
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads((path.parent / first.partition("=")[2]).read_text())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_editors_refuse_a_mistyped_key() -> None:
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    settings["explanations"]["conditional"]["sampels"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(settings, json.loads(document.schema()))
