"""Markers and files of jobs: what is written is read back, and nothing else is taken for one."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.storage.files import write_atomically
from preddiff.storage.markers import (
    Job,
    Marker,
    job_file,
    job_folder,
    marker_folder,
    markers_of,
    remove_markers,
    unfinished_jobs,
)

NUMBERS = st.integers(0, 10**6)
MARKERS = st.builds(
    Marker, NUMBERS, NUMBERS | st.none(), st.lists(st.text(), max_size=5).map(tuple)
)
JOBS = st.builds(
    Job, NUMBERS, NUMBERS | st.none(), st.text(), st.floats(0, 1e10, allow_nan=False), NUMBERS
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("markers")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@given(MARKERS, st.dictionaries(st.text().map("x {}".format), st.integers()))
def test_markers_are_read_back(folder: Path, marker: Marker, about: dict[str, int]) -> None:
    path = write(marker_folder(folder / "e.zarr") / "items.json", marker.to_json(about))
    assert list(markers_of(folder / "e.zarr")) == [(path, marker)]
    assert json.loads(path.read_text()).items() >= about.items()


@given(JOBS)
def test_jobs_are_read_back(folder: Path, job: Job) -> None:
    write(job_folder(folder / "j.zarr") / "items.json", json.dumps(asdict(job)))
    assert unfinished_jobs(folder / "j.zarr") == (job,)


@given(st.sets(st.tuples(NUMBERS, NUMBERS.filter(bool) | st.none()), min_size=2))
def test_jobs_of_other_items_have_files_of_their_own(shards: set[tuple[int, int | None]]) -> None:
    files = {job_file(Path("e.zarr"), first, last) for first, last in shards}
    assert len(files) == len(shards)


def test_they_come_in_the_order_of_items(tmp_path: Path) -> None:
    for first in (700, 0, 20_000):
        job = Job(first, first + 9, "node", 0.0, 0)
        write(job_file(tmp_path / "e.zarr", first, first + 9), json.dumps(asdict(job)))
    assert [job.first for job in unfinished_jobs(tmp_path / "e.zarr")] == [0, 700, 20_000]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '"first"', '{"first": 0, "last": 3}', '{"items": []}']
)
def test_what_cannot_be_read_is_neither_a_marker_nor_a_job(tmp_path: Path, text: str) -> None:
    path = write(marker_folder(tmp_path / "e.zarr") / "a.json", text)
    write(job_file(tmp_path / "e.zarr", 0, 1), text)
    assert list(markers_of(tmp_path / "e.zarr")) == [(path, None)]
    assert unfinished_jobs(tmp_path / "e.zarr") == ()


def test_a_marker_whose_writing_was_cut_short_does_not_count(tmp_path: Path) -> None:
    path = marker_folder(tmp_path / "e.zarr") / "a.json"
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as temporary:
        temporary.write_text(Marker(0, 1, ("a",)).to_json({}))
        # A process that is killed leaves its temporary file.
        temporary.with_name(".0123abcd.a.json").write_bytes(temporary.read_bytes())
        assert list(markers_of(tmp_path / "e.zarr")) == []
        raise KeyboardInterrupt
    assert list(markers_of(tmp_path / "e.zarr")) == []


def test_a_marker_that_is_deleted_meanwhile_is_left_out(tmp_path: Path) -> None:
    folder = marker_folder(tmp_path / "e.zarr")
    write(folder / "a.json", Marker(0, 1, ("a",)).to_json({}))
    (folder / "b.json").symlink_to("deleted")
    assert [path.name for path, _ in markers_of(tmp_path / "e.zarr")] == ["a.json"]


@pytest.mark.parametrize(("last", "items", "stop"), [(5, 9, 5), (5, 3, 3), (None, 9, 9)])
def test_jobs_stop_at_the_end_of_the_store(last: int | None, items: int, stop: int) -> None:
    assert Job(0, last, "node", 0.0, 0).stop(items) == stop


def test_markers_of_one_store_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in ("e", "e-2"):
        write(marker_folder(tmp_path / f"{name}.zarr") / "a.json", "broken")
        write(marker_folder(tmp_path / f"{name}.zarr") / ".0123abcd.a.json", "broken")
        write(job_file(tmp_path / f"{name}.zarr", 0, None), "broken")
    remove_markers(tmp_path / "e.zarr")
    remove_markers(tmp_path / "missing.zarr")
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == [
        "e-2.done/.0123abcd.a.json",
        "e-2.done/a.json",
        "e-2.started/items-00000-00000.json",
    ]
