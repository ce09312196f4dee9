"""Zarr stores: what ordinary tools see of them, and what is refused with a message."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from preddiff.errors import InputError
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.filled import BlockCounts
from preddiff.storage.provenance import version
from preddiff.storage.stores import (
    Variable,
    array,
    array_names,
    attributes,
    create,
    open_dataset,
    open_store,
    path_of,
    provenance_of,
    update_attributes,
)
from tests.unit.storage.small import make_store

PROVENANCE = {"k": 3, "code": "1f", "nested": {"a": [1, 2.5, None, True]}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    variables = {
        "values": Variable(("item", "x"), (2, 6), (1, 2), {"units": "bits"}, (1, 4)),
        "count": Variable(("item",), (2,), (2,), {}, dtype="int64"),
    }
    coordinates = {"item": ("item", np.array(["a", "längerer Name"])), "x": ("x", np.arange(6))}
    create(path, variables, coordinates, PROVENANCE, {"space": [6]})
    return path


def test_xarray_opens_a_store_with_its_names_and_units(store: Path) -> None:
    dataset = xr.open_zarr(store)
    assert dataset["values"].dims == ("item", "x")
    assert dataset["values"].attrs["units"] == "bits"
    assert list(dataset["item"].values) == ["a", "längerer Name"]
    assert dataset.attrs["provenance"] == PROVENANCE
    assert dataset.attrs["preddiff"] == version()
    assert dataset.attrs["space"] == [6]


def test_what_is_not_written_is_the_fill_value(store: Path) -> None:
    group = open_store(store, "r+")
    assert np.isnan(array(group, "values")[:]).all()
    assert (array(group, "count")[:] == 0).all()
    array(group, "values")[1, 2:4] = 7
    found = xr.open_zarr(store)["values"].values
    assert np.array_equal(np.argwhere(~np.isnan(found)), [[1, 2], [1, 3]])


def test_a_zarr_shard_is_a_file_of_several_chunks(store: Path) -> None:
    array(open_store(store, "r+"), "values")[:] = 1
    files = sorted(path.name for path in (store / "values").glob("c.*"))
    assert files == ["c.0.0", "c.0.1", "c.1.0", "c.1.1"]


def test_attributes_are_added_and_replaced_for_all_readers(store: Path) -> None:
    update_attributes(store, {"space": [7], "inputs": {"data": "../d.zarr"}})
    wanted = {"space": [7], "inputs": {"data": "../d.zarr"}, "provenance": PROVENANCE}
    assert attributes(open_store(store)).items() >= wanted.items()
    # xarray reads the consolidated metadata.
    assert xr.open_zarr(store, consolidated=True).attrs.items() >= wanted.items()
    assert provenance_of(store) == PROVENANCE


def test_stores_for_reading_are_not_written_to(store: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        array(open_store(store), "values")[:] = 1


def test_arrays_are_listed_and_the_store_is_named(store: Path) -> None:
    group = open_store(store)
    assert array_names(group) == ["count", "item", "values", "x"]
    assert path_of(group) == store
    with pytest.raises(InputError, match=rf"^{store}: the store has no array 'mean'"):
        array(group, "mean")


@pytest.mark.parametrize("open_it", [open_store, open_dataset, provenance_of, ExpectationStore])
def test_a_store_that_is_not_there_is_named(tmp_path: Path, open_it) -> None:
    with pytest.raises(InputError, match=rf"^{tmp_path}/s.zarr: no such store; run the stage"):
        open_it(tmp_path / "s.zarr")
    (tmp_path / "s.zarr").mkdir()
    with pytest.raises(InputError, match="no such store"):
        open_it(tmp_path / "s.zarr")


DAMAGE = [b"", b"{", b"[]", b"{}", b"null", b"7", b"\xff\xfe", b'{"zarr_format": 3}']


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("place", ["", "mean", "item"])
def test_damaged_metadata_are_named(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "e.zarr"
    make_store(path)
    (path / place / "zarr.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}: .*(damaged|no array)"):
        ExpectationStore(path)
    if place == "mean":
        with pytest.raises(InputError, match=rf"^{path}: .*(damaged|no array)"):
            BlockCounts(path)


@pytest.mark.parametrize("key", ["space", "k", "stride", "block"])
def test_lost_attributes_are_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "e.zarr"
    make_store(path)
    metadata = json.loads((path / "zarr.json").read_text())
    del metadata["attributes"][key]
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=f"{path}: .*damaged .*{key}"):
        ExpectationStore(path)


def test_damaged_coordinates_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.zarr"
    make_store(path)
    (path / "item/c/0").write_bytes(b"no strings")
    with pytest.raises(InputError, match=f"{path}: .*damaged"):
        ExpectationStore(path)


@pytest.mark.parametrize("provenance", [None, "text", ["k"]])
def test_stores_of_other_programs_have_no_provenance(tmp_path: Path, provenance: object) -> None:
    path = tmp_path / "s.zarr"
    zarr.open_group(path, mode="w", attributes={"provenance": provenance} if provenance else {})
    with pytest.raises(InputError, match="has no provenance"):
        provenance_of(path)


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ([2, 10**13], [1, 1], "reading one item takes 80,000 GB of memory, but this machine has"),
        ([10**13], [1], "reading it takes 80,000 GB"),
        ([2, 2], [10**7, 10**6], "reading one item takes 80,000 GB"),
    ],
)
def test_arrays_that_do_not_fit_into_memory_are_refused(
    tmp_path: Path, shape: list[int], chunks: list[int], message: str
) -> None:
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    group.create_array("mean", shape=shape, chunks=chunks, dtype="float32")
    with pytest.raises(InputError, match=f"array 'mean' has shape .*{message}"):
        array(open_store(tmp_path / "s.zarr"), "mean")


def test_many_items_with_one_chunk_each_fit_into_memory(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    group.create_array("mean", shape=(10**12, 100), chunks=(1, 100), dtype="float32")
    assert array(open_store(tmp_path / "s.zarr"), "mean").shape == (10**12, 100)
