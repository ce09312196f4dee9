"""Maps of a chosen accuracy: resumed, refined later, damaged, and the same bits in every case."""

import itertools
import os
import shutil
import signal
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from preddiff.cli import main
from preddiff.errors import InputError
from preddiff.stages.info import describe
from preddiff.stages.relevance import compute_relevance
from preddiff.stages.status import report, status_of
from preddiff.stages.verify import verify
from preddiff.storage.levels import LEVELS, LevelStore
from tests.study.cohort import write_config
from tests.study.commands import planned, snakemake
from tests.study.photographs import image_study, write_photographs
from tests.study.small_store import Explaining, Written, open_levels, prepare_network

COARSE, FINE = 0.1, 0.04
ARRAYS = ("reference", "draws", "change", "variance", "passes", "reached")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with images, a network, and stores that were filled without interruption."""
    folder = tmp_path_factory.mktemp("made")
    prepare_network(folder)
    for name, accuracy in (("coarse", COARSE), ("fine", FINE)):
        store = folder / f"{name}/e.zarr"
        open_levels(folder, store, accuracy)
        explained(store)
        compute_relevance(store, folder / f"{name}/r.zarr")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """Copy of the store of the finer accuracy, with all that it was made from."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made/fine/e.zarr"


def explained(
    store: Path, first: int = 0, last: int | None = None, status: int = 0
) -> list[Written]:
    """Explain what is left of a store; the levels that were computed."""
    job = Explaining(store, store.with_suffix(".log"), first, last)
    found = list(job.written())
    assert job.process.exitcode == status, store.with_suffix(".log").read_text()
    return found


def assert_same_bits(store: Path, other: Path, names: tuple[str, ...] = ARRAYS) -> None:
    one, two = xr.open_zarr(store).load(), xr.open_zarr(other).load()
    for name in names:
        assert one[name].values.tobytes() == two[name].values.tobytes(), name


def assert_same_maps(store: Path, other: Path, folder: Path) -> None:
    compute_relevance(store, folder / "r.zarr")
    assert_same_bits(folder / "r.zarr", other, ("relevance", "stderr", "error"))


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(("name", "accuracy"), [("coarse", COARSE), ("fine", FINE)])
def test_maps_are_as_accurate_as_asked_for(made: Path, name: str, accuracy: float) -> None:
    found = xr.open_zarr(made / name / "r.zarr").load()
    assert found["error"].dims == ("item", "target", "y", "x")
    rms = np.sqrt(np.square(found["error"]).mean(("y", "x")))
    assert (rms <= 1.0001 * accuracy * np.abs(found["relevance"]).max(("y", "x"))).all()
    assert (found["stderr"] <= found["error"] * 1.0001).all()
    assert found.attrs["provenance"]["accuracy"] == accuracy


def test_stores_say_what_was_drawn_and_what_was_not(made: Path) -> None:
    found = xr.open_zarr(made / "fine/e.zarr").load()
    assert found["change"].dims == ("item", "level", "target", "window_y", "window_x")
    drawn = found["draws"] > 0
    assert (found["change"].notnull() == drawn).all()
    assert (found["variance"].notnull() == drawn).all()
    levels = found["reached"].notnull().all("target")
    passes = found["draws"].sum(("window_y", "window_x")).cumsum("level")
    assert (passes == found["passes"]).where(levels, True).all()
    assert levels.sum("level").min() > 1 and levels.sum("level").max() < LEVELS


def test_killed_before_any_file_loses_and_repeats_nothing(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_levels(made, store, FINE)
    finished: Counter[Written] = Counter()
    # Before each file of a level (reference, draws, change, variance, passes, reached).
    for _, number in zip(range(12), itertools.cycle(range(1, 13)), strict=False):
        job = Explaining(store, tmp_path / "log", kill_before=number)
        told = list(job.written())
        if job.process.exitcode == 0:
            finished.update(told)
            break
        assert job.process.exitcode == -signal.SIGKILL
        finished.update(told[:-1])
    finished.update(explained(store))
    assert set(finished.values()) == {1}
    assert_same_bits(store, made / "fine/e.zarr")
    assert_same_maps(store, made / "fine/r.zarr", tmp_path)


def test_bfloat16_is_resumed_too(made: Path, tmp_path: Path) -> None:
    whole, store = tmp_path / "whole/e.zarr", tmp_path / "e.zarr"
    names = (*ARRAYS, "draws_in_both", "shift", "shift_variance")
    for path in (whole, store):
        open_levels(made, path, COARSE, "--precision", "bfloat16")
    explained(whole)
    # Before each file of a level: shift and its variance are missing where nothing is in both.
    for number in range(1, 13):
        job = Explaining(store, tmp_path / "log", kill_before=number)
        list(job.written())
        if job.process.exitcode == 0:
            break
    explained(store)
    assert_same_bits(store, whole, names)
    found = xr.open_zarr(store).load()
    assert found.attrs["provenance"]["precision"] == "bfloat16"
    assert (found["shift"].notnull() == (found["draws_in_both"] > 0)).all()
    assert 0 < found["draws_in_both"].sum() < found["draws"].sum()
    compute_relevance(store, tmp_path / "r.zarr")
    maps = xr.open_zarr(tmp_path / "r.zarr").load()
    exact = xr.open_zarr(made / "coarse/r.zarr").load()
    largest = np.abs(exact["relevance"]).max(("y", "x"))
    difference = np.square((maps["relevance"] - exact["relevance"]) / largest).mean()
    said = ((np.square(maps["error"]) + np.square(exact["error"])) / np.square(largest)).mean()
    assert difference < 1.25**2 * said


def test_shards_and_batches_do_not_change_maps(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_levels(made, store, COARSE)
    for item in (2, 0, 1):
        explained(store, item, item + 1)
    assert_same_bits(store, made / "coarse/e.zarr")


def test_a_finer_accuracy_goes_on_and_a_coarser_one_is_served_at_once(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "coarse", tmp_path, dirs_exist_ok=True)
    store = tmp_path / "e.zarr"
    open_levels(made, store, FINE)
    assert not list(store.with_suffix(".done").glob("*.json"))
    assert 0 < status_of(store).blocks_done < 3
    with pytest.raises(InputError, match=r"not accurate to 0\.04 yet; run `preddiff explain"):
        compute_relevance(store, tmp_path / "r.zarr")
    before = {(item, n) for item in range(3) for n in range(levels_of(made / "coarse", item))}
    found = explained(store)
    assert found and not before & {(item, number) for (item,), number in found}
    assert_same_bits(store, made / "fine/e.zarr")
    open_levels(made, store, COARSE)
    assert explained(store) == []
    assert_same_maps(store, made / "coarse/r.zarr", tmp_path)


def levels_of(folder: Path, item: int) -> int:
    return len(LevelStore(folder / "e.zarr").errors(item)[1])


def test_a_job_does_not_complete_its_shard_for_another_accuracy(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_levels(made, store, COARSE)
    job = Explaining(store, tmp_path / "log")
    list(islice(job.written(), 1))
    open_levels(made, store, FINE)
    assert len(status_of(store).running) == 1
    list(job.written())
    assert job.process.exitcode == 2
    assert "another accuracy was asked for while this job was running" in (
        (tmp_path / "log").read_text()
    )
    assert not list(store.with_suffix(".done").glob("*.json"))
    explained(store)
    assert_same_bits(store, made / "fine/e.zarr")


def test_changes_of_the_algorithm_are_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "e.zarr"
    open_levels(made, store, COARSE)
    inputs = ("--data", made / "data.zarr", "--classifier", made / "classifier")
    settings = ("--kind", "marginal", "--k", 4, "--targets", "logit:red", "--samples", 4)
    main([str(part) for part in ("open", *inputs, *settings, "--out", store)])
    assert "estimator: levels -> samples" in capsys.readouterr().err
    open_levels(made, store, COARSE)
    assert "estimator: samples -> levels" in capsys.readouterr().err


def test_other_settings_are_not_mixed(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "expectations/e.zarr"
    shutil.copytree(made / "coarse", store.parent)
    open_levels(made, store, COARSE, "--seed", 5)
    assert LevelStore(store).accurate_levels(0) is None
    assert len(list((store.parent / "aside").glob("e-*.zarr"))) == 1
    open_levels(made, store, COARSE)
    assert explained(store) == []


@pytest.mark.parametrize("name", ARRAYS)
def test_a_flipped_byte_is_found_and_repaired(made: Path, copy: Path, name: str) -> None:
    store = copy
    (file,) = (store / name).glob("c.1.*")
    flip(file, 5)
    found = verify(store)
    assert found and all(line.startswith("item 'image-1.png', level ") for line in found)
    assert verify(store, repair=True) == found
    assert not list(store.with_suffix(".done").iterdir())
    assert explained(store)
    assert verify(store) == []
    assert_same_bits(store, made / "fine/e.zarr")


def test_a_lost_file_is_found(made: Path, copy: Path) -> None:
    (file,) = (copy / "passes").glob("c.1.*")
    file.unlink()
    assert verify(copy)[0] == "item 'image-1.png', level 0"
    verify(copy, repair=True)
    explained(copy)
    assert_same_bits(copy, made / "fine/e.zarr")


def test_a_damaged_level_that_was_only_begun_is_computed_again(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "e.zarr"
    open_levels(made, store, COARSE)
    # Before the third of the files of the first level.
    list(Explaining(store, tmp_path / "log", kill_before=3).written())
    (file,) = (store / "draws").glob("c.0.*")
    flip(file, -8)
    assert verify(store) == ["item 'image-0.png', level 0"]
    explained(store)
    assert_same_bits(store, made / "coarse/e.zarr")


def test_resuming_repairs_what_is_damaged(made: Path, copy: Path, tmp_path: Path) -> None:
    store = copy
    (file,) = (store / "change").glob("c.2.*")
    flip(file, 5)
    with pytest.raises(InputError, match=r"damaged; run `preddiff verify --repair .*`"):
        compute_relevance(store, tmp_path / "r.zarr")
    assert {item for item, _ in explained(store)} == {(2,)}
    assert "recomputing damaged levels, from 0 on" in store.with_suffix(".log").read_text()
    assert_same_bits(store, made / "fine/e.zarr")


def test_status_shows_the_error_beside_what_was_asked_for(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "study/expectations/e.zarr"
    open_levels(made, store, FINE)
    assert f"{FINE} asked" in report(tmp_path / "study")
    job = Explaining(store, tmp_path / "log")
    told = list(islice(job.written(), 3))
    os.kill(job.process.pid, signal.SIGSTOP)
    found = status_of(store)
    assert len(told) == 3 and found.error > FINE and 0 < found.blocks_done < found.blocks == 3
    assert f"{found.error:.2g} of {FINE}" in report(tmp_path / "study")
    assert "items/min" in report(tmp_path / "study")
    os.kill(job.process.pid, signal.SIGCONT)
    list(job.written())
    assert f"{FINE} reached" in report(tmp_path / "study")
    assert "3 of 3 items begun" in describe(store) and f"{FINE} asked for" in describe(store)


def test_a_sampler_that_is_not_random_ends_where_nothing_is_left_to_draw(
    made: Path, tmp_path: Path
) -> None:
    store = tmp_path / "e.zarr"
    inputs = ("--data", made / "data.zarr", "--classifier", made / "classifier")
    settings = ("--kind", "grey", "--k", 4, "--accuracy", 1e-9, "--targets", "logit:red")
    main([str(part) for part in ("open", *inputs, *settings, "--out", store)])
    explained(store)
    found = xr.open_zarr(store).load()
    assert (found["draws"].sum("level") == 1).all()
    compute_relevance(store, tmp_path / "r.zarr")
    assert (xr.open_zarr(tmp_path / "r.zarr")["error"] == 0).all()


def test_a_study_goes_on_from_a_coarser_accuracy(tmp_path: Path) -> None:
    """Through Snakemake: what depends on the accuracy is made again, and nothing else."""
    settings = image_study(write_photographs(tmp_path / "photographs", 4, faults=False), "refined")
    one = {"classifier": "own", "dataset": "photographs", "sampler": "marginal", "k": 4}
    one |= {"targets": ["probability:top-1"], "items_per_job": 2}
    settings["explanations"] = {"marginal": {**one, "accuracy": 0.1}}
    settings["figures"] = {}
    config = write_config(tmp_path / "config.yaml", settings)
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/refined"
    before = xr.open_zarr(results / "expectations/marginal.zarr").load()
    assert planned(tmp_path, config) == {}
    settings["explanations"]["marginal"]["accuracy"] = 0.02
    write_config(config, settings)
    expected = {"open_expectations": 1, "explain": 2, "relevance": 1, "localise_images": 1}
    found = planned(tmp_path, config)
    assert {rule: found[rule] for rule in expected} == expected
    assert not {"gaussian", "module", "predict", "prepare_images"} & found.keys()
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stdout + done.stderr
    after = xr.open_zarr(results / "expectations/marginal.zarr").load()
    kept = before["reached"].notnull().all("target")
    assert (after["change"].where(kept) == before["change"].where(kept)).any()
    assert (after["passes"] > before["passes"]).any()
    relevance = xr.open_zarr(results / "relevance/marginal.zarr").load()
    rms = np.sqrt(np.square(relevance["error"]).mean(("y", "x")))
    assert (rms <= 0.0201 * np.abs(relevance["relevance"]).max(("y", "x"))).all()
    assert "0.02 reached" in report(results)
    assert planned(tmp_path, config) == {}
