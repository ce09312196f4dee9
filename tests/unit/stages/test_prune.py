"""Pruning deletes the stores that were set aside, and only when asked to."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from preddiff.errors import InputError
from preddiff.stages import prune
from preddiff.storage.aside import set_aside, stores_aside
from tests.unit.storage.small import fill, make_store


def run(*arguments: object) -> None:
    parser = ArgumentParser()
    prune.add_arguments(parser)
    prune.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "expectations").mkdir()
    for name, items in (("e", "ab"), ("e", "abc"), ("f", "ab")):
        path = tmp_path / f"expectations/{name}.zarr"
        fill(make_store(path, items), [0])
        set_aside(path)
    fill(make_store(tmp_path / "expectations/e.zarr"), [0])
    return tmp_path


def test_nothing_is_deleted_unasked(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(study)
    *listed, last = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in listed] == [str(s.path) for s in stores_aside(study)]
    assert last.startswith("with --yes these are deleted, which frees ")
    assert len(listed) == 3


def test_all_are_deleted_on_demand(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(study, "--yes")
    assert capsys.readouterr().out.count("\n") == 4
    assert not list((study / "expectations/aside").iterdir())
    assert (study / "expectations/e.zarr/zarr.json").exists()
    run(study, "--yes")
    assert capsys.readouterr().out == f"{study}: no stores are set aside\n"


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a study"):
        run(tmp_path, "--yes")
