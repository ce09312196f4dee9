"""Files and folders appear complete or not at all, whatever stops their writer."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from preddiff.storage.files import (
    remove_folder,
    remove_leftovers,
    replace_folder,
    write_atomically,
)

STOPPED = pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a/b/table.tsv.gz"
    with write_atomically(path) as temporary:
        assert temporary.suffix == ".gz" and temporary.parent == path.parent
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["table.tsv.gz"]


@STOPPED
@pytest.mark.parametrize("written", [False, True])
def test_a_file_stays_as_it_was_when_its_writer_stops(
    tmp_path: Path, stop: type[BaseException], written: bool
) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("before")
    with pytest.raises(stop), write_atomically(path) as temporary:
        if written:
            temporary.write_text("half")
        raise stop
    assert path.read_text() == "before"
    assert names(tmp_path) == ["table.tsv"]


def test_two_writers_of_a_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    with write_atomically(path) as one, write_atomically(path) as two:
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["table.tsv"]


def test_a_file_is_replaced_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("before")
    os.link(path, tmp_path / "link")
    with write_atomically(path) as temporary:
        temporary.write_text("after")
    assert (tmp_path / "link").read_text() == "before"


@pytest.mark.parametrize("before", [False, True])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, before: bool) -> None:
    path = tmp_path / "new/store"
    if before:
        (path / "sub").mkdir(parents=True)
        (path / "sub/old").touch()
    with replace_folder(path) as temporary:
        assert temporary.is_dir() and not list(temporary.iterdir())
        (temporary / "new").touch()
        assert path.exists() == before
    assert names(path) == ["new"]
    assert names(path.parent) == ["store"]


@STOPPED
def test_a_folder_stays_as_it_was_when_its_writer_stops(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    path = tmp_path / "store"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(stop), replace_folder(path) as temporary:
        (temporary / "new").touch()
        raise stop
    assert names(path) == ["old"]
    assert names(tmp_path) == ["store"]


def test_the_body_may_move_the_old_folder_away(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.mkdir()
    (path / "old").touch()
    with replace_folder(path) as temporary:
        (temporary / "new").touch()
        path.rename(tmp_path / "aside")
    assert names(path) == ["new"]
    assert names(tmp_path / "aside") == ["old"]


def write_until_killed(path: Path, what: str, started: Connection) -> None:
    if what == "file":
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            started.send(None)
            signal.pause()
    with replace_folder(path) as temporary:
        (temporary / "half").touch()
        started.send(None)
        signal.pause()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_a_killed_process_left_is_found_by_its_name(tmp_path: Path, what: str) -> None:
    context = multiprocessing.get_context("forkserver")
    path = tmp_path / "a+b.zarr"
    waiting, started = context.Pipe(duplex=False)
    process = context.Process(target=write_until_killed, args=(path, what, started))
    process.start()
    waiting.recv()
    process.kill()
    process.join()
    (leftover,) = names(tmp_path)
    assert leftover.startswith(".") and leftover.endswith(".a+b.zarr")
    remove_leftovers(tmp_path / "b.zarr")
    assert names(tmp_path) == [leftover]
    if what == "file":
        remove_leftovers(path)
        assert names(tmp_path) == []
    else:
        with replace_folder(path):
            pass
        assert names(tmp_path) == ["a+b.zarr"]


@pytest.mark.parametrize(
    "name",
    ["e.zarr", ".e.zarr", ".0123abc.e.zarr", ".0123ABCD.e.zarr", ".0123abcd.exzarr",
     ".0123abcd.e.zarr.old", "x.0123abcd.e.zarr", ".0123abcd.f.zarr"],
)  # fmt: skip
def test_nothing_else_is_taken_for_a_leftover(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    remove_leftovers(tmp_path / "e.zarr")
    assert names(tmp_path) == [name]


def test_folders_that_are_not_there_are_no_error(tmp_path: Path) -> None:
    remove_folder(tmp_path / "missing")
    remove_leftovers(tmp_path / "missing/e.zarr")
    assert names(tmp_path) == []


def test_a_folder_is_removed_with_all_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "store/sub").mkdir(parents=True)
    (tmp_path / "store/sub/file").touch()
    remove_folder(tmp_path / "store")
    assert names(tmp_path) == []
