"""Expectation stores: what is refused, kept, found damaged, discarded and taken over."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from preddiff.engines.base import Expectations
from preddiff.errors import InputError
from preddiff.storage import filled
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.filled import BlockCounts, carry_over
from tests.unit.storage.small import fill, make_store, random_block

ARRAYS = ("reference", "change", "variance", "mean")


def chunk_file(store: ExpectationStore, name: str, item: int) -> Path:
    (file,) = (store.path / name).glob(f"c.{item}.*")
    return file


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["reference", "change", "variance"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.5e38, -(2.0**1000)])
def test_values_that_are_not_finite_are_refused_before_anything_is_written(
    tmp_path: Path, name: str, value: float
) -> None:
    store = make_store(tmp_path / "e.zarr")
    before = contents(tmp_path)
    good = random_block(store.blocks[1], items=2)
    values = getattr(good, name).copy()
    values[(1, 1) + (0,) * (values.ndim - 2)] = value
    with pytest.raises(InputError, match=r"item 'c', target 'layer:3:0': .* not finite"):
        store.write([0, 2], store.blocks[1], replace(good, **{name: values}))
    assert contents(tmp_path) == before
    store.write([0, 2], store.blocks[1], good)


def test_a_mean_that_overflows_is_refused_though_its_parts_do_not(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    good = random_block(store.blocks[0])
    large = replace(good, reference=good.reference * 0 + 2e38, change=good.change * 0 + 2e38)
    with pytest.raises(InputError, match="item 'b', target 'probability:cat': the mean"):
        store.write([1], store.blocks[0], large)


def test_the_largest_values_that_float32_holds_are_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    largest = float(np.finfo(np.float32).max)
    for block in store.blocks:
        good = random_block(block)
        store.write([0], block, replace(good, variance=good.variance * 0 + largest))
    assert (ExpectationStore(store.path).read(0)["variance"] == largest).all()


@settings(max_examples=20)
@given(
    arrays(np.float32, (2, 2), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    arrays(np.float32, (2, 2, 4, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    arrays(np.float32, (2, 2, 4, 5), elements=st.floats(0, 2.0**100, width=32)),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    reference: np.ndarray,
    change: np.ndarray,
    variance: np.ndarray,
) -> None:
    store = make_store(tmp_path_factory.mktemp("round") / "e.zarr")
    for block in reversed(store.blocks):
        part = (slice(None), slice(None), *block.slices)
        found = Expectations(
            reference.astype(float), change[part].astype(float), variance[part].astype(float)
        )
        store.write([2, 0], block, found)
    mean = (reference[..., None, None].astype(float) + change).astype(np.float32)
    for row, item in enumerate([2, 0]):
        found = ExpectationStore(store.path).read(item)
        wanted = {"reference": reference, "change": change, "variance": variance, "mean": mean}
        assert {name: values.tobytes() for name, values in found.items()} == {
            name: values[row].tobytes() for name, values in wanted.items()
        }


def test_a_store_knows_what_it_was_made_for(tmp_path: Path) -> None:
    store = ExpectationStore(make_store(tmp_path / "e.zarr", ["b", "ä"]).path)
    assert store.items == ["b", "ä"]
    assert store.item_digests == ["digest of b", "digest of ä"]
    assert store.targets == ["probability:cat", "layer:3:0"]
    assert store.windows.shape == (4, 5)
    assert [block.shape for block in store.blocks] == [(1, 5)] * 4
    assert store.about["provenance"]["code"] == "1f3a"


def test_blocks_are_missing_until_they_are_written(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    fill(store, [1], [2, 0])
    assert [block.number for block in store.missing(1)] == [1, 3]
    assert [block.number for block in store.missing(0)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="2 of 4 blocks of item 'b' are not computed yet; run"):
        store.read(1)
    fill(ExpectationStore(store.path, "r+"), [1], [1, 3])
    assert store.missing(1) == []
    assert set(store.read(1)) == set(ARRAYS)


@given(st.dictionaries(st.integers(0, 4), st.sets(st.integers(0, 3), min_size=1)))
@settings(max_examples=20)
def test_blocks_are_counted_as_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, written: dict[int, set[int]]
) -> None:
    store = make_store(tmp_path_factory.mktemp("count") / "e.zarr", "abcde")
    for item, blocks in written.items():
        fill(store, [item], sorted(blocks))
    counts = BlockCounts(store.path)
    assert (counts.items, counts.blocks) == (5, 4)
    assert counts.items_begun() == sorted(written)
    rows = xr.open_zarr(store.path)["mean"].notnull().all(["target", "window_x"]).sum("window_y")
    assert [counts.blocks_written(item) for item in range(5)] == rows.values.tolist()


def test_an_item_whose_file_was_truncated_has_no_blocks(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    fill(store, [0, 1])
    os.truncate(chunk_file(store, "mean", 1), 11)
    counts = BlockCounts(store.path)
    assert [counts.blocks_written(item) for item in range(3)] == [4, 0, 0]
    assert counts.items_begun() == [0, 1]


def flip(position: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[position] ^= 4
        file.write_bytes(content)

    return damage


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 7)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    ("damage", "blocks"),
    [(flip(5), 1), (flip(-5), 4), (truncate, 4), (empty, 4), (Path.unlink, 4)],
    ids=["value", "index", "truncated", "empty", "deleted"],
)
def test_damage_is_found_and_only_what_is_damaged_is_discarded(
    tmp_path: Path, name: str, damage: Callable[[Path], None], blocks: int
) -> None:
    store = make_store(tmp_path / "e.zarr")
    fill(store, [0, 1, 2])
    before = store.read(1)
    damage(chunk_file(store, name, 1))
    if name == "mean" and damage in (Path.unlink, empty):
        # Nothing tells any more that there were blocks, so they are computed again.
        assert store.damaged(1) == []
        assert len(store.missing(1)) == 4
        return
    blocks = 4 if name == "reference" else blocks
    damaged = store.damaged(1)
    assert len(damaged) == blocks
    assert store.damaged(0) == store.damaged(2) == []
    way_out = f"run `preddiff verify --repair {store.path}`"
    with pytest.raises(
        InputError, match=f"{blocks} of 4 blocks of item 'b' are damaged; {way_out}"
    ):
        store.read(1)
    store.discard(1, damaged)
    assert store.damaged(1) == []
    assert store.missing(1) == damaged
    fill(store, [1], [block.number for block in damaged])
    for array_name, values in store.read(1).items():
        assert values.tobytes() == before[array_name].tobytes()


def test_what_is_discarded_is_missing_and_the_rest_is_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    fill(store, [0, 1])
    before = xr.open_zarr(store.path).load()
    store.discard(0, store.blocks[1:3])
    after = xr.open_zarr(store.path).load()
    for name in ("change", "variance", "mean"):
        assert np.isnan(after[name][0, :, 1:3]).all()
        after[name][0, :, 1:3] = before[name][0, :, 1:3]
    xr.testing.assert_identical(after, before)
    store.discard(1, store.blocks)
    assert BlockCounts(store.path).items_begun() == [0]


def test_a_block_that_is_written_meanwhile_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "e.zarr")
    read = ExpectationStore._readable
    calls = []

    def read_and_let_a_job_write(self: ExpectationStore, name: str, item: int):
        found = read(self, name, item)
        calls.append(name)
        if len(calls) == 1:
            fill(store, [0])
        return found

    monkeypatch.setattr(ExpectationStore, "_readable", read_and_let_a_job_write)
    assert ExpectationStore(store.path).damaged(0) == []
    assert len(calls) == 4


def fail(*arguments: object) -> None:
    raise OSError("no hard links here")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("rows", [{0: 2, 2: 0}, {1: 1}, {}])
def test_items_are_taken_over_to_other_places(
    tmp_path: Path, rows: dict[int, int], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_store(tmp_path / "old.zarr"), make_store(tmp_path / "new.zarr", "abcd")
    fill(old, [0, 1, 2])
    if not links:
        # As file systems do that have none.
        monkeypatch.setattr(os, "link", fail)
    carry_over(old.path, new.path, rows)
    for source, target in rows.items():
        for name, values in old.read(source).items():
            assert new.read(target)[name].tobytes() == values.tobytes()
    assert BlockCounts(new.path).items_begun() == sorted(rows.values())


@pytest.mark.parametrize("links", [True, False])
def test_stores_that_share_items_do_not_change_each_other(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_store(tmp_path / "old.zarr"), make_store(tmp_path / "new.zarr")
    fill(old, [0], [0, 1])
    fill(old, [1, 2])
    before = contents(old.path)
    if not links:
        monkeypatch.setattr(os, "link", fail)
    # Blocks that the item had before are replaced.
    fill(new, [0], [3])
    carry_over(old.path, new.path, {0: 0, 1: 1})
    assert [block.number for block in new.missing(0)] == [2, 3]
    fill(new, [0], [2, 3])
    new.discard(1, new.blocks[:1])
    assert contents(old.path) == before
    old.discard(0, old.blocks)
    assert new.missing(0) == []


def test_temporary_files_of_the_own_items_are_removed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr", [str(n) for n in range(15)])
    fill(store, [1, 11])
    kept = contents(store.path)
    for name, item, rest in [("reference", 1, ""), ("mean", 1, ".0.0.0"), ("mean", 11, ".0.0.0")]:
        # As Zarr names them.
        (store.path / name / f"c.{item}{rest}.{'a7' * 16}.partial").touch()
    store.remove_leftovers([1])
    left = set(contents(store.path)) - set(kept)
    assert left == {f"mean/c.11.0.0.0.{'a7' * 16}.partial"}
    store.remove_leftovers(range(15))
    assert contents(store.path) == kept


def test_zarr_names_temporary_files_as_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "e.zarr")
    seen: list[str] = []
    replaced = Path.replace

    def replace_and_look(self: Path, target: Path) -> Path:
        seen.extend(path.name for path, item in filled._chunk_files(self.parent, True))
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", replace_and_look)
    fill(store, [1], [0])
    assert len(seen) == 4
