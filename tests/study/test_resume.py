"""Jobs that are killed, doubled or deceived: nothing is lost, torn, mixed or done twice."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from preddiff.errors import InputError
from preddiff.stages.status import report, status_of
from preddiff.stages.verify import verify
from preddiff.storage.expectations import ExpectationStore
from tests.study.cohort import small_study, write_cohort, write_config
from tests.study.commands import (
    chunks_of,
    planned,
    preddiff,
    snakemake,
    snakemake_command,
)
from tests.study.small_store import Explaining, Written, open_store, prepare

KILLS = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with data, a classifier and a complete store."""
    folder = tmp_path_factory.mktemp("made")
    prepare(folder)
    open_store(folder, folder / "complete/e.zarr")
    done = Explaining(folder / "complete/e.zarr", folder / "log")
    blocks = len(ExpectationStore(folder / "complete/e.zarr").blocks)
    assert len(list(done.written())) == 14 * blocks
    assert done.process.exitcode == 0
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """Copy of the complete store, with all that it was made from."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made/complete/e.zarr"


def files(store: Path) -> list[str]:
    """All files beside and in a store, but for locks."""
    found = (path.relative_to(store.parent) for path in store.parent.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.suffix != ".lock")


def explained(store: Path, status: int = 0) -> str:
    """Explain what is left of a store, and return what is told meanwhile."""
    with tempfile.NamedTemporaryFile() as log:
        job = Explaining(store, Path(log.name))
        list(job.written())
        told = Path(log.name).read_text()
    assert job.process.exitcode == status, told
    return told


def assert_same_bits(store: Path, other: Path) -> None:
    one, two = xr.open_zarr(store).load(), xr.open_zarr(other).load()
    for name in ("reference", "mean", "change", "variance"):
        assert one[name].notnull().all()
        assert one[name].values.tobytes() == two[name].values.tobytes()


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(content)


def test_killed_before_any_file_loses_and_repeats_nothing(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_store(made, store)
    finished: Counter[Written] = Counter()
    # Before each file of a block (reference, change, variance, mean), and of up to three blocks.
    for _, number in zip(range(KILLS), itertools.cycle(range(1, 13)), strict=False):
        job = Explaining(store, tmp_path / "log", kill_before=number)
        told = list(job.written())
        assert job.process.exitcode == -signal.SIGKILL
        assert len(told) == (number + 3) // 4
        finished.update(told[:-1])
    last = Explaining(store, tmp_path / "log")
    finished.update(last.written())
    assert last.process.exitcode == 0
    assert set(finished.values()) == {1}
    (tmp_path / "log").unlink()
    assert files(store) == files(made / "complete/e.zarr")
    assert_same_bits(store, made / "complete/e.zarr")


def test_of_two_jobs_one_waits_and_takes_over_when_the_other_dies(
    made: Path, tmp_path: Path
) -> None:
    store = tmp_path / "e.zarr"
    open_store(made, store)
    first = Explaining(store, tmp_path / "first", 0, 7)
    list(islice(first.written(), 3))
    os.kill(first.process.pid, signal.SIGSTOP)
    second = Explaining(store, tmp_path / "second", 3, 9)
    beside = Explaining(store, tmp_path / "beside", 9, 14)
    assert len(list(beside.written())) == 5 * len(ExpectationStore(store).blocks)
    told = "another process is explaining some of items 3 to 8"
    _wait_for(tmp_path / "second", lambda log: told in log.read_text())
    first.kill()
    assert list(second.written())
    assert second.process.exitcode == 0
    assert list(Explaining(store, tmp_path / "first").written())
    assert_same_bits(store, made / "complete/e.zarr")


def _wait_for(path: Path, condition: Callable[[Path], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not (path.exists() and condition(path)):
        assert time.monotonic() < end, f"what is waited for in {path} does not come"
        time.sleep(0.01)


def test_a_store_that_is_started_anew_takes_nothing_from_older_jobs(
    made: Path, tmp_path: Path
) -> None:
    store = tmp_path / "e.zarr"
    open_store(made, store)
    job = Explaining(store, tmp_path / "log")
    list(islice(job.written(), 2))
    open_store(made, store, "--samples", 7)
    list(job.written())
    assert job.process.exitcode == 2
    assert "deleted, set aside or replaced" in (tmp_path / "log").read_text()
    assert np.isnan(xr.open_zarr(store)["mean"].values).all()


def test_a_store_deleted_under_a_job_is_not_raised_again(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_store(made, store)
    job = Explaining(store, tmp_path / "log")
    list(islice(job.written(), 2))
    store.rename(tmp_path / "elsewhere")
    list(job.written())
    assert job.process.exitcode == 2
    assert f"{store}: the store was deleted" in (tmp_path / "log").read_text()
    assert not (store / "zarr.json").exists()


@pytest.mark.parametrize("name", ["change", "variance", "mean", "reference"])
@pytest.mark.parametrize("place", ["a block", "the index"])
def test_a_flipped_byte_is_found_and_repaired(
    made: Path, copy: Path, name: str, place: str
) -> None:
    flip(chunks_of(copy, name, 5), 5 if place == "a block" else -5)
    with pytest.raises(InputError, match=r"damaged; run `preddiff verify --repair .*`"):
        ExpectationStore(copy).read(5)
    found = verify(copy)
    whole = place == "the index" or name == "reference"
    assert len(found) == (len(ExpectationStore(copy).blocks) if whole else 1)
    assert found[0].startswith("item 'sub-05', block ")
    assert verify(copy, repair=True) == found
    assert not list(copy.with_suffix(".done").iterdir())
    explained(copy)
    assert verify(copy) == []
    assert_same_bits(copy, made / "complete/e.zarr")


def test_resuming_repairs_what_is_damaged(made: Path, copy: Path) -> None:
    flip(chunks_of(copy, "mean", 5), 20)
    flip(chunks_of(copy, "mean", 6), -10)
    chunks_of(copy, "mean", 7).write_bytes(b"")
    assert "item 'sub-05': recomputing damaged blocks (1)" in explained(copy)
    assert_same_bits(copy, made / "complete/e.zarr")


def test_status_tells_what_is_done_running_and_lost(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "study/expectations/e.zarr"
    blocks = len(ExpectationStore(made / "complete/e.zarr").blocks)
    open_store(made, store)
    assert report(tmp_path / "study").splitlines()[1].split()[:4] == ["e", "0", "of", "14"]
    logs = tmp_path / "study/logs"
    logs.mkdir()
    assert list(Explaining(store, logs / "explain-e-00000-00001.log", 0, 1).written())
    lost = Explaining(store, logs / "explain-e-00001-00003.log", 1, 3)
    list(islice(lost.written(), 3))
    lost.kill()
    job = Explaining(store, logs / "explain-e-00003-00014.log", 3, 14)
    list(islice(job.written(), 9))
    os.kill(job.process.pid, signal.SIGSTOP)
    found = status_of(store)
    assert (found.items, found.items_done) == (14, 1)
    assert found.blocks == 14 * blocks
    written = ExpectationStore(store)
    assert found.blocks_done == sum(blocks - len(written.missing(item)) for item in range(14))
    assert [job.first for job in found.running] == [3]
    assert found.running[0].blocks_done >= 8 and found.seconds_left > 0
    text = report(tmp_path / "study")
    assert "e, items 1 to 2: started" in text and "explain-e-00001-00003.log ends with" in text
    assert "window/s" in text.splitlines()[-1]
    assert preddiff("status", tmp_path / "study").stdout.startswith("explanation")
    os.kill(job.process.pid, signal.SIGCONT)
    list(job.written())
    explained(store)
    done = status_of(store)
    assert done.blocks_done == done.blocks and not done.running and not done.stopped
    assert preddiff("status", tmp_path).returncode == 2


def test_verify_finds_damage_in_any_store(made: Path, copy: Path) -> None:
    data = copy.parents[1] / "data.zarr"
    good = preddiff("verify", data, copy)
    assert good.returncode == 0 and good.stdout.count("can be read") == 2
    flip(next((data / "intensity").glob("c.3.*")), 50)
    bad = preddiff("verify", data)
    assert bad.returncode == 2
    assert "array 'intensity', 3 to 3" in bad.stdout
    assert preddiff("verify", data, "--repair").returncode == 0
    assert not data.exists()


def test_added_items_are_explained_and_the_others_kept(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_store(made, store, "--items", "sub-03", "sub-05", "sub-07")
    first = Explaining(store, tmp_path / "log", 0, 3)
    blocks = len(list(first.written())) // 3
    open_store(made, store, "--items", "sub-01", "sub-03", "sub-07", "sub-05")
    # The marker tells of other items than those that stand in its range now.
    assert not list(store.with_suffix(".done").iterdir())
    again = Explaining(store, tmp_path / "log", 0, 4)
    told = list(again.written())
    assert {items for items, _ in told} == {(0,)} and len(told) == blocks
    one = xr.open_zarr(store).load()
    complete = xr.open_zarr(made / "complete/e.zarr").load()
    for name in ("reference", "mean", "change", "variance"):
        expected = complete[name].sel(item=["sub-01", "sub-03", "sub-07", "sub-05"])
        assert one[name].values.tobytes() == expected.values.tobytes()


def test_settings_that_return_find_their_numbers_again(made: Path, tmp_path: Path, capsys) -> None:
    store = tmp_path / "study/expectations/e.zarr"
    open_store(made, store)
    blocks = len(list(Explaining(store, tmp_path / "log", 0, 3).written()))
    before = xr.open_zarr(store).load()
    open_store(made, store, "--samples", 7)
    assert "its results are set aside as" in capsys.readouterr().err
    assert np.isnan(xr.open_zarr(store)["mean"].values).all()
    assert not list(store.with_suffix(".done").iterdir())
    list(Explaining(store, tmp_path / "log", 0, 1).written())
    open_store(made, store)
    assert "moved back" in capsys.readouterr().err
    xr.testing.assert_equal(xr.open_zarr(store).load(), before)
    # What is computed then is the rest, and it is right.
    assert blocks + len(list(Explaining(store, tmp_path / "log").written())) == 14 * blocks // 3
    assert_same_bits(store, made / "complete/e.zarr")
    assert len(list((store.parent / "aside").iterdir())) == 1


def test_items_that_return_are_not_explained_again(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    for items in (["sub-01", "sub-02"], ["sub-02", "sub-03"], ["sub-03", "sub-04"]):
        open_store(made, store, "--items", *items)
        list(Explaining(store, tmp_path / "log").written())
    open_store(made, store, "--items", "sub-01", "sub-02", "sub-03", "sub-04")
    assert not list(Explaining(store, tmp_path / "log").written())
    complete = xr.open_zarr(made / "complete/e.zarr").load()
    for name in ("reference", "mean", "change", "variance"):
        expected = complete[name].sel(item=["sub-01", "sub-02", "sub-03", "sub-04"])
        assert xr.open_zarr(store)[name].values.tobytes() == expected.values.tobytes()


def test_stores_set_aside_are_listed_and_pruned(made: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    store = study / "expectations/e.zarr"
    open_store(made, store)
    none = preddiff("prune", study)
    assert none.returncode == 0 and "no stores are set aside" in none.stdout
    list(Explaining(store, tmp_path / "log", 0, 1).written())
    open_store(made, store, "--samples", 7)
    (aside,) = (study / "expectations/aside").iterdir()
    status = preddiff("status", study)
    assert status.returncode == 0, status.stderr
    assert f"{aside}, " in status.stdout and "    samples: 10 -> 7" in status.stdout
    # What a killed process left is no store.
    (store.parent / ".0123abcd.e.zarr").mkdir()
    assert preddiff("status", study).stdout == status.stdout
    listed = preddiff("prune", study)
    assert listed.returncode == 0 and str(aside) in listed.stdout
    (freed,) = re.findall(r"with --yes these are deleted, which frees ([0-9.]+) MB", listed.stdout)
    size = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
    assert freed == f"{size / 1e6:.1f}" and aside.exists()
    pruned = preddiff("prune", study, "--yes")
    assert pruned.returncode == 0 and f"deleted; {freed} MB are free again" in pruned.stdout
    assert not aside.exists() and store.exists()
    assert "set aside" not in preddiff("status", study).stdout
    assert preddiff("prune", tmp_path).returncode == 2


def test_killed_snakemake_goes_on_after_its_lock_is_cleared(tmp_path: Path) -> None:
    settings = small_study(write_cohort(tmp_path / "cohort"), "small")
    settings["explanations"] = {
        "samples": {**settings["explanations"]["samples"], "samples": 1500, "sampler": "marginal"}
    }
    settings["figures"] = {}
    config = write_config(tmp_path / "config.yaml", settings)
    # What comes before is made in peace.
    assert snakemake(tmp_path, config, "--until", "open_expectations").returncode == 0
    store = tmp_path / "results/small/expectations/samples.zarr"
    for everything in (False, True):
        with (tmp_path / "log").open("w") as log:
            run = subprocess.Popen(
                [*snakemake_command(config), "--rerun-incomplete"],
                cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        _wait_for(tmp_path / "log", lambda log: "rule explain:" in log.read_text())
        _wait_for(store.with_suffix(".started"), lambda folder: any(folder.iterdir()))
        # Its jobs run on, or are killed with it.
        os.killpg(run.pid, signal.SIGKILL) if everything else run.kill()
        run.wait()
        refused = snakemake(tmp_path, config, "--rerun-incomplete")
        assert refused.returncode != 0 and "--unlock" in refused.stdout + refused.stderr
        assert snakemake(tmp_path, config, "--unlock").returncode == 0
    done = snakemake(tmp_path, config, "--rerun-incomplete")
    assert done.returncode == 0, done.stdout + done.stderr
    assert xr.open_zarr(store)["mean"].notnull().all()
    names = [path.name for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert not [name for name in names if name.startswith(".") or name.endswith(".partial")]
    assert planned(tmp_path, config) == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """Folder with a file system of its own, of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("fault", "message"), [("size=200k", "No space left"), ("ro", "Read-only file system")]
)
def test_full_and_read_only_disks_stop_a_job_with_a_word_and_lose_nothing(
    made: Path, small_disk: Path, fault: str, message: str
) -> None:
    store = small_disk / "results/e.zarr"
    if fault == "ro":
        subprocess.run(["mount", "-o", "remount,size=4M", small_disk], check=True)
    open_store(made, store)
    if fault == "ro":
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    told = explained(store, status=2)
    assert message in told and "Traceback" not in told
    assert str(small_disk) in told
    subprocess.run(["mount", "-o", "remount,rw,size=4M", small_disk], check=True)
    explained(store)
    assert files(store) == files(made / "complete/e.zarr")
    assert_same_bits(store, made / "complete/e.zarr")
