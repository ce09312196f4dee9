"""Stores made by other code or settings: set aside, found again, or kept knowingly, never lost."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from preddiff.settings.study import Study
from preddiff.storage.aside import stores_aside
from preddiff.storage.stores import PROVENANCE
from tests.study.commands import preddiff
from tests.study.small_store import open_store, prepare, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a data store and a classifier."""
    folder = tmp_path_factory.mktemp("made")
    prepare(folder)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A complete store of three items, in the folder of a study."""
    path = tmp_path / "study/expectations/e.zarr"
    open_store(made, path, "--items", 3)
    run("explain", path)
    return path


def rewrite(store: Path, version: str | None = None, **provenance: object) -> None:
    """Let a store be made by another version, or by other code."""
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    about = dict(group.attrs)
    found = dict(about[PROVENANCE])
    found |= {key: value for key, value in provenance.items() if value is not None}
    group.attrs[PROVENANCE] = found
    if version is not None:
        group.attrs["preddiff"] = version
        # What the first version did not note.
        del group.attrs["settings"]
    zarr.consolidate_metadata(store)


def means(store: Path) -> np.ndarray:
    return xr.open_zarr(store)["mean"].values


def test_other_code_sets_a_store_aside_and_status_lists_it(made: Path, store: Path) -> None:
    before = means(store)
    rewrite(store, code="of yesterday")
    open_store(made, store, "--items", 3)
    assert np.isnan(means(store)).all()
    (aside,) = stores_aside(store.parents[1])
    assert np.array_equal(means(aside.path), before)
    status = preddiff("status", store.parents[1])
    assert aside.path.name in status.stdout and "code: of yesterday" in status.stdout
    kept = preddiff("prune", store.parents[1])
    assert kept.returncode == 0 and aside.path.exists() and "--yes" in kept.stdout
    assert preddiff("prune", store.parents[1], "--yes").returncode == 0
    assert not aside.path.exists() and store.exists()


def test_settings_that_return_find_their_numbers_again(made: Path, store: Path) -> None:
    before = means(store)
    open_store(made, store, "--items", 3, "--samples", 7)
    assert np.isnan(means(store)).all()
    open_store(made, store, "--items", 3)
    assert np.array_equal(means(store), before)
    assert stores_aside(store.parents[1]) == []


def test_items_that_leave_and_return_are_not_explained_again(made: Path, store: Path) -> None:
    before = means(store)
    open_store(made, store, "--items", 1)
    assert np.array_equal(means(store), before[:1])
    open_store(made, store, "--items", 3)
    assert np.array_equal(means(store), before)


def test_numbers_of_an_earlier_version_are_kept_if_told(made: Path, store: Path) -> None:
    before = means(store)
    rewrite(store, version="0.1.0", code="old", device="auto")
    open_store(made, store, "--items", 3, "--keep-numbers-of", "0.1.0")
    assert np.array_equal(means(store), before)
    attributes = xr.open_zarr(store).attrs
    assert attributes["numbers_of"] == "0.1.0" and attributes["preddiff"] == "0.1.0"
    # From now on it is a store like any other.
    run("explain", store)
    open_store(made, store, "--items", 3)
    assert np.array_equal(means(store), before)
    assert stores_aside(store.parents[1]) == []


@pytest.mark.parametrize("change", ["version", "settings"])
def test_other_numbers_are_not_kept(made: Path, store: Path, change: str) -> None:
    rewrite(store, version="0.0.9" if change == "version" else "0.1.0", code="old")
    more = ["--samples", 7] if change == "settings" else []
    open_store(made, store, "--items", 3, "--keep-numbers-of", "0.1.0", *more)
    assert np.isnan(means(store)).all()
    assert len(stores_aside(store.parents[1])) == 1


def test_stores_of_the_first_version_can_be_read(store: Path, tmp_path: Path) -> None:
    rewrite(store, version="0.1.0", code="old", device="cpu")
    run("relevance", store, "--out", tmp_path / "relevance.zarr")
    assert xr.open_zarr(tmp_path / "relevance.zarr")["relevance"].notnull().all()
    assert "3 of 3 items" in preddiff("info", store).stdout
    assert preddiff("verify", store).returncode == 0


def test_explaining_a_store_of_an_earlier_version_says_to_open_it(store: Path) -> None:
    rewrite(store, version="0.1.0", code="old")
    (next((store / "mean").glob("c.0.*"))).unlink()
    done = preddiff("explain", store)
    assert done.returncode == 2 and "open it again with preddiff open" in done.stderr


def test_stores_note_what_they_were_made_with(store: Path) -> None:
    versions = xr.open_zarr(store).attrs["versions"]
    assert {"python", "numpy", "torch", "torchvision"} <= versions.keys()
    assert versions["numpy"] == np.__version__
    assert "torch" in preddiff("info", store).stdout


def test_the_workflow_hands_the_version_on() -> None:
    from preddiff.workflow import Plan

    settings = {
        "study": "s",
        "keep_numbers_of": "0.1.0",
        "datasets": {"d": {"digits": {}}},
        "classifiers": {"c": {"kind": "digits", "dataset": "d"}},
        "samplers": {"grey": {"kind": "grey"}},
        "explanations": {"e": {"classifier": "c", "sampler": "grey", "k": 2}},
    }
    arguments = Plan(Study.model_validate(json.loads(json.dumps(settings)))).open_arguments("e")
    assert arguments[-2:] == ["--keep-numbers-of", "0.1.0"]
