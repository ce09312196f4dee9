"""Status: what was started, what is done, what failed and what is set aside."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from preddiff.errors import InputError
from preddiff.stages.status import report, status_of
from preddiff.storage.aside import set_aside
from preddiff.storage.markers import Job, Marker, job_file, marker_folder
from tests.unit.storage.small import fill, make_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of a study of which two items are complete, one of them by its marker."""
    path = tmp_path / "expectations/e.zarr"
    path.parent.mkdir()
    made = make_store(path, "abcd")
    fill(made, [0, 1])
    fill(made, [2], [0])
    marker_folder(path).mkdir()
    (marker_folder(path) / "a.json").write_text(Marker(0, 1, ("a",)).to_json({}))
    return path


def start(store: Path, first: int, last: int | None) -> None:
    path = job_file(store, first, last)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(Job(first, last, "node7", 0.0, 0))))


def test_blocks_are_counted_with_and_without_markers(store: Path) -> None:
    found = status_of(store)
    assert (found.name, found.items, found.items_done) == ("e", 4, 2)
    assert (found.blocks, found.blocks_done) == (16, 9)
    assert found.running == found.stopped == () and found.seconds_left is None


def test_jobs_that_failed_are_told_from_those_that_are_done(store: Path) -> None:
    start(store, 0, 1)
    start(store, 1, 3)
    start(store, 3, None)
    assert [job.first for job in status_of(store).stopped] == [1, 3]
    logs = store.parents[1] / "logs"
    logs.mkdir()
    (logs / "explain-e-00001-00003.log").write_text("".join(f"line {n}\n\n" for n in range(9)))
    text = report(store.parents[1])
    assert "e, items 1 to 2: started 19" in text and "on node7, failed; " in text
    assert "    line 4\n" in text and "    line 8\n" in text and "line 3" not in text
    assert "e, items 3 to the last: started" in text


def test_stores_set_aside_are_listed_beside_others_and_alone(store: Path) -> None:
    aside = set_aside(store)
    assert f"\n  {aside}, 0.0 MB; aside -> current store:\n    there is no e.zarr now" in report(
        store.parents[1]
    )
    make_store(store, "ab", {"k": 5, "code": "1f3a", "targets": ["t" * 200]})
    lines = report(store.parents[1]).splitlines()
    assert lines[1].split() == ["e", "0", "of", "2", "0", "of", "8", "0%", "0"]
    assert lines[-3:-1] == ["    items: a-b-c-d -> a-b", "    k: 3 -> 5"]
    assert lines[-1].startswith("    targets: unset -> ['ttt") and lines[-1].endswith("ttt...")


def test_what_a_killed_process_left_is_not_listed(store: Path) -> None:
    before = report(store.parents[1])
    (store.parent / ".0123abcd.e.zarr").mkdir()
    assert report(store.parents[1]) == before


def test_folders_without_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: no explanations were started here"):
        report(tmp_path)
