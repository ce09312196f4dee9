"""Stores that are set aside: nothing computed is lost, overwritten or taken for something else."""

import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from preddiff.storage.aside import (
    delete,
    freed_by_deleting,
    has_results,
    restore,
    reuse_items,
    set_aside,
    size_of,
    stores_aside,
)
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.filled import BlockCounts
from preddiff.storage.locks import exclusive
from preddiff.storage.markers import Marker, job_file, marker_folder, markers_of
from preddiff.storage.provenance import digest_json
from preddiff.storage.stores import provenance_of
from tests.unit.storage.small import SETTINGS, fill, make_store
from tests.unit.storage.waiting import waits_for_a_lock

OTHER = {"k": 3, "code": "77aa"}


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def blocks(store: Path) -> dict[str, int]:
    """Number of blocks of each item, by its name."""
    counts, names = BlockCounts(store), ExpectationStore(store).items
    return {names[item]: counts.blocks_written(item) for item in counts.items_begun()}


def assert_right(store: Path) -> None:
    """Check that all blocks are those of the items that they are stored for."""
    opened = ExpectationStore(store)
    right = make_store(store.with_name("right.zarr"), opened.items)
    fill(right, range(len(opened.items)))
    for number in range(len(opened.items)):
        if not opened.missing(number):
            for name, values in opened.read(number).items():
                assert values.tobytes() == right.read(number)[name].tobytes()
    shutil.rmtree(right.path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of an explanation is."""
    (tmp_path / "expectations").mkdir()
    return tmp_path / "expectations/e.zarr"


def names_aside(path: Path) -> list[str]:
    return [one.path.name for one in stores_aside(path.parents[1])]


def test_a_store_with_results_is_kept_under_the_digest_of_its_provenance(path: Path) -> None:
    fill(make_store(path), [1], [2])
    before, provenance = contents(path), provenance_of(path)
    aside = set_aside(path)
    assert aside == path.parent / f"aside/e-{digest_json(provenance)[:8]}.zarr"
    assert re.fullmatch(r"e-[0-9a-f]{8}", aside.stem)
    assert contents(aside) == before
    assert not path.exists()
    (found,) = stores_aside(path.parents[1])
    assert (found.path, found.store, found.provenance) == (aside, path, provenance)


def test_a_store_without_results_is_deleted(path: Path) -> None:
    store = make_store(path)
    fill(store, [0])
    store.discard(0, store.blocks)
    assert set_aside(path) is None
    assert list(path.parent.iterdir()) == []
    assert set_aside(path) is None


def test_markers_are_not_left_for_the_store_that_follows(path: Path) -> None:
    fill(make_store(path), [0])
    make_store(path.with_name("e-2.zarr"))
    for store in (path, path.with_name("e-2.zarr")):
        marker_folder(store).mkdir()
        (marker_folder(store) / "items.json").write_text(Marker(0, 1, ("a",)).to_json({}))
        job_file(store, 1, 2).parent.mkdir()
        job_file(store, 1, 2).write_text("{}")
    set_aside(path)
    assert not list(markers_of(path)) and not job_file(path, 1, 2).exists()
    assert list(markers_of(path.with_name("e-2.zarr")))
    assert job_file(path.with_name("e-2.zarr"), 1, 2).exists()


def remove_metadata(store: Path) -> None:
    (store / "zarr.json").unlink()


def garble_array(store: Path) -> None:
    (store / "mean/zarr.json").write_text("{")


def lose_provenance(store: Path) -> None:
    (store / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')


@pytest.mark.parametrize("damage", [remove_metadata, garble_array, lose_provenance])
def test_damaged_stores_are_kept_and_never_overwritten(
    path: Path, damage: Callable[[Path], None]
) -> None:
    kept = []
    for item in range(3):
        fill(make_store(path), [item])
        provenance = provenance_of(path)
        damage(path)
        before = contents(path)
        kept.append((set_aside(path), before))
    stem = f"e-{digest_json(provenance)[:8]}" if damage is garble_array else "e-damaged"
    assert [aside.name for aside, _ in kept] == [
        f"{stem}.zarr", f"{stem}.2.zarr", f"{stem}.3.zarr"
    ]  # fmt: skip
    assert all(contents(aside) == before for aside, before in kept)
    assert names_aside(path) == sorted(aside.name for aside, _ in kept)
    # Nothing that is damaged comes back.
    assert not restore(path, provenance)


def test_an_empty_folder_is_no_damaged_store(path: Path) -> None:
    (path / "mean").mkdir(parents=True)
    assert set_aside(path) is None
    assert not path.exists()


def test_settings_that_return_find_their_numbers_again(path: Path) -> None:
    fill(make_store(path), [0, 1], [0, 2])
    first, provenance = contents(path), provenance_of(path)
    assert not restore(path, provenance)
    set_aside(path)
    fill(make_store(path, provenance=OTHER), [2])
    second, other = contents(path), provenance_of(path)
    assert restore(path, provenance)
    assert contents(path) == first
    assert names_aside(path) == [f"e-{digest_json(other)[:8]}.zarr"]
    assert restore(path, other)
    assert contents(path) == second
    assert names_aside(path) == [f"e-{digest_json(provenance)[:8]}.zarr"]


@pytest.mark.parametrize("key", ["k", "code", "items", "new"])
def test_only_exactly_the_same_provenance_comes_back(path: Path, key: str) -> None:
    fill(make_store(path), [0])
    provenance = provenance_of(path)
    set_aside(path)
    assert not restore(path, {**provenance, key: "other"})
    assert not path.exists()
    shorter = {name: value for name, value in provenance.items() if name != key}
    assert restore(path, shorter) == (key == "new")


def test_stores_of_other_explanations_do_not_come_back(path: Path) -> None:
    for name in ("e", "e-0123abcd", "f"):
        fill(make_store(path.with_name(f"{name}.zarr")), [0])
        set_aside(path.with_name(f"{name}.zarr"))
    provenance = stores_aside(path.parents[1])[0].provenance
    assert [one.store.stem for one in stores_aside(path.parents[1])] == ["e-0123abcd", "e", "f"]
    assert restore(path, provenance)
    assert len(names_aside(path)) == 2
    assert not restore(path.with_name("g.zarr"), provenance)


def test_of_equal_stores_the_fullest_comes_back_with_what_the_others_have(path: Path) -> None:
    provenance = provenance_of(make_store(path).path)
    for written in ({0: [0, 1]}, {1: [0, 1, 2, 3], 2: [3]}, {2: [0, 1]}):
        make_store(path)
        for item, numbers in written.items():
            fill(ExpectationStore(path, "r+"), [item], numbers)
        # As if they had been damaged and healed, which is how there can be several.
        shutil.move(path, path.with_name(f"{len(written)}-{min(written)}"))
    (path.parent / "aside").mkdir()
    stem = f"e-{digest_json(provenance)[:8]}"
    for name, moved in zip(("", ".2", ".3"), ("1-0", "2-1", "1-2"), strict=True):
        path.with_name(moved).rename(path.parent / f"aside/{stem}{name}.zarr")
    assert restore(path, provenance)
    assert blocks(path) == {"a": 2, "b": 4, "c": 2}
    assert_right(path)
    assert names_aside(path) == [f"{stem}.3.zarr", f"{stem}.zarr"]


def test_results_of_items_are_found_in_the_store_and_aside(path: Path) -> None:
    fill(make_store(path, "abc"), [0, 1])
    set_aside(path)
    fill(make_store(path, "cd"), [0], [0])
    fill(ExpectationStore(path, "r+"), [1])
    set_aside(path)
    fill(make_store(path, "bx", provenance=OTHER), [0, 1])
    set_aside(path)
    fill(make_store(path, "ecf"), [1], [0, 1])
    fill(ExpectationStore(path, "r+"), [2])
    before = contents(path.parent)
    new = make_store(path.with_name("new.zarr"), "dbcaxe").path
    # Of c the store has two blocks; f is not wanted any more; b and x of other code do not count.
    assert reuse_items(path, new) == {1: 2}
    assert blocks(new) == {"a": 4, "b": 4, "c": 2, "d": 4}
    assert_right(new)
    shutil.rmtree(new)
    assert contents(path.parent) == before


def test_without_stores_nothing_is_reused(path: Path) -> None:
    new = make_store(path.with_name("new.zarr")).path
    assert reuse_items(path, new) == {}
    assert blocks(new) == {}


def test_results_besides_those_that_are_kept_are_seen(path: Path) -> None:
    assert not has_results(path)
    store = make_store(path)
    assert not has_results(path)
    fill(store, [0, 2], [1])
    assert has_results(path)
    assert has_results(path, besides=[0, 1])
    assert not has_results(path, besides={2: 0, 0: 5})


def test_it_is_said_what_differs(path: Path) -> None:
    fill(make_store(path), [0])
    set_aside(path)
    (found,) = stores_aside(path.parents[1])
    assert found.differences() == ["there is no e.zarr now"]
    make_store(path, "ab", provenance={**SETTINGS, "code": "77aa"})
    assert found.differences() == ["code: 1f3a -> 77aa", "items: a-b-c -> a-b"]
    garble_array(path)
    assert found.differences() == ["code: 1f3a -> 77aa", "items: a-b-c -> a-b"]
    lose_provenance(path)
    assert found.differences() == ["the metadata of e.zarr are damaged"]
    remove_metadata(found.path)
    (found,) = stores_aside(path.parents[1])
    assert found.differences() == ["its metadata are damaged"]


def test_files_that_the_store_shares_are_not_freed(path: Path) -> None:
    fill(make_store(path, "abc"), [0, 1, 2])
    new = make_store(path.with_name("new.zarr"), "ab").path
    reuse_items(path, new)
    shared = sum(file.stat().st_size for file in path.rglob("c.[01].*"))
    aside = set_aside(path)
    new.rename(path)
    everything = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
    assert size_of([aside]) == everything
    assert freed_by_deleting([aside]) == everything - shared
    both = everything + sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert freed_by_deleting([aside, path]) == size_of([aside, path]) == both - shared


def test_deleting_takes_one_store_and_what_belongs_to_it(path: Path) -> None:
    for items in ("abc", "ab"):
        fill(make_store(path, items), [0])
        set_aside(path)
    fill(make_store(path), [1])
    before = contents(path)
    one, two = stores_aside(path.parents[1])
    # As `preddiff verify --repair` on it leaves.
    one.path.with_suffix(".lock").touch()
    marker_folder(one.path).mkdir()
    # As a process that was killed while it deleted leaves.
    (one.path.parent / ".0123abcd.e-01234567.zarr/mean").mkdir(parents=True)
    delete(one)
    assert sorted(os.listdir(one.path.parent)) == [two.path.name]
    delete(two)
    assert os.listdir(one.path.parent) == []
    assert contents(path) == before


def delete_all(study: Path) -> None:
    for one in stores_aside(study):
        delete(one)


def test_nothing_is_deleted_while_stores_are_moved(path: Path) -> None:
    fill(make_store(path), [0])
    provenance = provenance_of(path)
    with exclusive(path):
        set_aside(path)
        process = multiprocessing.get_context("forkserver").Process(
            target=delete_all, args=(path.parents[1],)
        )
        process.start()
        assert waits_for_a_lock(process)
        assert restore(path, provenance)
    process.join()
    assert blocks(path) == {"a": 4}
    assert names_aside(path) == []
