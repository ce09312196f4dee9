"""Inputs of a store are found again, also after the study was moved."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.storage.inputs import Inputs

NAMES = st.text("abc .é-", min_size=1, max_size=6).filter(lambda name: name.strip(".") != "")
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: Path(*names))


@given(PATHS, PATHS, PATHS, PATHS | st.none(), PATHS | st.none(), PATHS | st.none())
def test_inputs_are_read_back(
    store: Path,
    data: Path,
    classifier: Path,
    gaussian: Path | None,
    donors: Path | None,
    predictions: Path | None,
) -> None:
    root = Path("/study")
    parts = (data, classifier, gaussian, donors, predictions)
    inputs = Inputs(*(None if part is None else root / part for part in parts))
    stored = inputs.relative_to(root / store)
    assert not any(path and Path(path).is_absolute() for path in stored.values())
    found = Inputs.of(root / store, {"inputs": stored})
    for name in stored:
        wanted, path = getattr(inputs, name), getattr(found, name)
        assert path == wanted if wanted is None else path.resolve() == wanted


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name in ("data/d.zarr", "classifiers/c", "expectations/e.zarr"):
        (tmp_path / "study" / name).mkdir(parents=True)
    return tmp_path / "study"


def inputs_of(study: Path) -> Inputs:
    return Inputs(study / "data/d.zarr", study / "classifiers/c")


def test_a_study_can_be_moved(study: Path) -> None:
    stored = inputs_of(study).relative_to(study / "expectations/e.zarr")
    moved = study.rename(study.with_name("moved"))
    found = Inputs.of(moved / "expectations/e.zarr", {"inputs": stored})
    assert found.data.samefile(moved / "data/d.zarr")
    assert found.classifier.samefile(moved / "classifiers/c")
    assert found.gaussian is None


def test_relative_paths_are_those_of_the_working_directory(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study / "data")
    stored = Inputs(Path("d.zarr"), Path("../classifiers/c")).relative_to(
        Path("../expectations/e.zarr")
    )
    assert stored["data"] == "../data/d.zarr"
    assert stored["classifier"] == "../classifiers/c"
    assert stored["gaussian"] is None


@pytest.mark.parametrize("link", ["expectations", "expectations/e.zarr"])
def test_stores_may_lie_on_another_disk(study: Path, tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "another/much/deeper/folder"
    elsewhere.parent.mkdir(parents=True)
    (study / link).rename(elsewhere)
    (study / link).symlink_to(elsewhere)
    store = study / "expectations/e.zarr"
    found = Inputs.of(store, {"inputs": inputs_of(study).relative_to(store)})
    assert found.data.samefile(study / "data/d.zarr")
