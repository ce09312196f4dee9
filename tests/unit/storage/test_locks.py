"""Locks between real processes, on stores that are moved, and where there are no locks."""

import errno
import fcntl
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from preddiff.errors import InputError
from preddiff.storage.locks import claim, exclusive, is_claimed
from tests.unit.storage.waiting import waits_for_a_lock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["preddiff.storage.locks"])


class _Sent:
    """A standard error whose text is sent to the process that waits for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, text: str) -> None:
        if text.strip():
            self._connection.send(text)

    def flush(self) -> None:
        pass


def _hold(store: Path, kind: str, first: int, last: int | None, connection: Connection) -> None:
    sys.stderr = _Sent(connection)
    with ExitStack() as stack:
        if kind == "exclusive":
            stack.enter_context(exclusive(store))
        else:
            mine = stack.enter_context(claim(store, first, last))
            if kind == "writing":
                stack.enter_context(mine.writing())
        connection.send("held")
        connection.recv()
    connection.send("released")


class Other:
    """Another process, which takes a lock and holds it until it is told to release it."""

    def __init__(self, store: Path, kind: str, first: int = 0, last: int | None = None) -> None:
        self._connection, child = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_hold, args=(store, kind, first, last, child))
        self.process.start()
        child.close()

    def says(self) -> str:
        """What the process says next; waits for it."""
        return self._connection.recv()

    def release(self) -> None:
        self._connection.send("release")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@contextmanager
def other(store: Path, kind: str, first: int = 0, last: int | None = None) -> Iterator[Other]:
    process = Other(store, kind, first, last)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "e.zarr").mkdir()
    return tmp_path / "e.zarr"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_without_locks_jobs_go_on(
    store: Path, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, "this file system refuses every request")

    # This is what such a file system does; everything of ours runs as it is.
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with exclusive(store):
        pass
    with claim(store, 0, 2) as mine:
        for _ in range(3):
            with mine.writing():
                (store / "block").touch()
    assert not is_claimed(store, 0, 2)
    assert capsys.readouterr().err.count("has no locks") == 1


def test_jobs_of_other_items_do_not_wait(store: Path) -> None:
    with other(store, "claim", 0, 5) as one, other(store, "claim", 5, None) as two:
        assert one.says() == "held"
        assert two.says() == "held"


def test_a_job_of_the_same_items_says_so_and_waits(store: Path) -> None:
    with other(store, "claim", 0, 5) as one:
        assert one.says() == "held"
        with other(store, "claim", 4, 9) as two:
            message = f"{store}: another process is explaining some of items 4 to 8"
            assert two.says().startswith(message)
            assert waits_for_a_lock(two.process)
            one.release()
            assert one.says() == "released"
            assert two.says() == "held"


def test_a_lock_is_free_when_its_owner_is_killed(store: Path) -> None:
    with other(store, "claim") as one:
        assert one.says() == "held"
        assert is_claimed(store, 3, 4)
        with other(store, "claim") as two:
            assert "items 0 to the last" in two.says()
            one.kill()
            assert two.says() == "held"


@pytest.mark.parametrize(
    ("first", "last", "claimed"),
    [(0, 3, False), (0, 4, True), (3, 4, True), (6, 7, True), (7, 9, False), (0, 99, True)],
)
def test_claims_are_of_exactly_the_items(store: Path, first: int, last: int, claimed: bool) -> None:
    assert not is_claimed(store, first, last)
    with other(store, "claim", 3, 7) as process:
        assert process.says() == "held"
        assert is_claimed(store, first, last) == claimed


def test_no_items_are_claimed_by_an_empty_range(store: Path) -> None:
    with other(store, "claim", 2, 2) as process:
        assert process.says() == "held"
        assert not is_claimed(store, 0, 9)
        assert not is_claimed(store, 9, 9)


def test_a_store_is_changed_while_nobody_writes_to_it(store: Path) -> None:
    with other(store, "writing", 0, 2) as writing:
        assert writing.says() == "held"
        with other(store, "exclusive") as exclusive, other(store, "writing", 2, 4) as beside:
            # Those who write do not wait for each other.
            assert beside.says() == "held"
            assert waits_for_a_lock(exclusive.process)
            writing.release()
            assert writing.says() == "released"
            assert waits_for_a_lock(exclusive.process)
            beside.release()
            assert exclusive.says() == "held"


def test_claims_do_not_keep_a_store_from_being_changed(store: Path) -> None:
    with other(store, "claim") as job:
        assert job.says() == "held"
        with exclusive(store):
            store.rename(store.with_name("elsewhere"))
        assert is_claimed(store, 0, 1)


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_to_a_store_that_was_moved_or_replaced(
    store: Path, replaced: bool
) -> None:
    with claim(store, 0, None) as mine:
        with mine.writing():
            pass
        store.rename(store.with_name("elsewhere"))
        if replaced:
            store.mkdir()
        with pytest.raises(InputError, match="was deleted, set aside or replaced"), mine.writing():
            pytest.fail("it was allowed to write")


def test_a_store_that_is_deleted_in_the_midst_of_a_write_is_named(store: Path) -> None:
    with claim(store, 0, None) as mine:
        with pytest.raises(InputError, match="was deleted"), mine.writing():
            store.rmdir()
            (store / "block").touch()
        store.mkdir()


def test_other_failures_of_a_write_are_not_taken_for_a_deletion(store: Path) -> None:
    with claim(store, 0, None) as mine, pytest.raises(FileNotFoundError), mine.writing():
        (store / "missing/block").touch()


def test_a_store_that_is_put_back_is_written_to_again(store: Path) -> None:
    with claim(store, 0, None) as mine:
        store.rename(store.with_name("elsewhere"))
        store.with_name("elsewhere").rename(store)
        with mine.writing():
            (store / "block").touch()


def test_claims_need_a_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such store"), claim(tmp_path / "e.zarr", 0, 1):
        pass
    assert not is_claimed(tmp_path / "e.zarr", 0, 1)
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_not_there_yet_can_be_locked(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a/b/e.zarr"):
        pass
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["e.lock"]
