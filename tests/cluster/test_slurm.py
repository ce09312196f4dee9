"""Studies on a real Slurm: both nodes at work, the same bits as here, and jobs that are lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from tests.study.cohort import write_config
from tests.study.commands import ROOT, planned, snakemake

pytestmark = pytest.mark.usefixtures("slurm")

SECONDS = 600.0
# No other test has a study of this name.
STORE = "results/digits/expectations/marginal.zarr"


def digits(samples: int = 300, items: int = 4, items_per_job: int = 2) -> dict[str, Any]:
    """A study of which the explanation takes a few jobs."""
    return {
        "study": "digits",
        "datasets": {"digits": {"digits": {"test": 0.1}}},
        "classifiers": {"network": {"kind": "digits", "dataset": "digits"}},
        "samplers": {"marginal": {"kind": "marginal"}},
        "explanations": {
            "marginal": {
                "classifier": "network",
                "sampler": "marginal",
                "k": 2,
                "samples": samples,
                "items": items,
                "items_per_job": items_per_job,
                "block": 7,
            }
        },
    }


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study that is finished, without Slurm."""
    folder = tmp_path_factory.mktemp("here")
    done = snakemake(folder, write_config(folder / "config.yaml", digits()))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def without_expectations(here: Path, folder: Path) -> Path:
    """Copy a study up to where its items are explained: what comes before takes a single core."""
    shutil.copytree(here, folder)
    shutil.rmtree(folder / "results/digits/expectations")
    shutil.rmtree(folder / "results/digits/relevance")
    return folder


@dataclass(frozen=True)
class Job:
    number: str
    state: str
    node: str
    comment: str


def running() -> list[Job]:
    """Jobs of the rule explain that run."""
    command = ["squeue", "--noheader", "--format", "%i|%T|%N|%k"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    jobs = [Job(*line.split("|", 3)) for line in listed.stdout.splitlines()]
    return [job for job in jobs if job.state == "RUNNING" and "explain" in job.comment]


class Study:
    """A run of Snakemake with the profile for Slurm."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.log = folder / "snakemake.log"
        config = write_config(folder / "config.yaml", settings)
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--configfile", str(config), "--profile", str(ROOT / "workflow/profiles/slurm")]
        command += ["--slurm-init-seconds-before-status-checks", "1"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < end, f"not seen: {what}\n{self.log.read_text()}"
            assert self.process.poll() is None, f"ended before: {what}\n{self.log.read_text()}"
            time.sleep(0.1)
        return found

    def finish(self) -> None:
        assert self.process.wait(SECONDS) == 0, self.log.read_text()


def expectations(folder: Path) -> xr.Dataset:
    return xr.open_zarr(folder / STORE).load()


def assert_same_bits(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in ("reference", "mean", "change", "variance"):
        assert one[name].notnull().all()
        assert one[name].values.tobytes() == other[name].values.tobytes()


def test_two_studies_on_two_nodes_give_the_bits_of_a_local_run(here: Path, tmp_path: Path) -> None:
    one, two = (without_expectations(here, tmp_path / name) for name in ("one", "two"))
    studies = [Study(one, digits()), Study(two, digits(samples=40))]
    nodes = studies[0].wait_until(
        lambda: found if len(found := {job.node for job in running()}) == 2 else None, "both nodes"
    )
    assert nodes == {"n1", "n2"}
    for study in studies:
        study.finish()
    assert_same_bits(expectations(one), expectations(here))
    assert expectations(two)["mean"].notnull().all()
    assert planned(one, one / "config.yaml") == {}
    logs = {path.name for path in (one / "results/digits/logs").glob("explain-*")}
    assert logs == {"explain-marginal-00000-00002.log", "explain-marginal-00002-00004.log"}


def test_cancelled_jobs_lost_nodes_and_time_limits_are_survived(here: Path, tmp_path: Path) -> None:
    folder = without_expectations(here, tmp_path / "study")
    study = Study(folder, digits(samples=4000, items=3, items_per_job=1))
    late, lost = study.wait_until(
        lambda: jobs if len(jobs := running()) == 2 else None, "two jobs at once"
    )
    lose(lost.node)
    # Slurm looks for jobs that are late every half minute: until then this one stands still.
    first = int(late.comment.rsplit("_", 2)[1])
    job = f"preddiff explain {STORE} --first {first} "
    study.wait_until(lambda: stop(job), "the job's process")
    scontrol("update", f"JobId={late.number}", "TimeLimit=00:00:01")
    cancelled = study.wait_until(
        lambda: next((j for j in running() if j.comment not in (late.comment, lost.comment)), None),
        "a third job",
    )
    subprocess.run(["scancel", cancelled.number], check=True)
    # It reports for duty by itself.
    subprocess.run(["slurmd", "-N", lost.node], check=True)
    study.finish()
    told = study.log.read_text()
    assert told.count("Trying to restart job") == 3
    assert expectations(folder)["mean"].notnull().all()
    assert planned(folder, folder / "config.yaml") == {}


def stop(command: str) -> bool:
    """Stop the processes of a command, if there are any."""
    return subprocess.run(["pkill", "-STOP", "-f", command], check=False).returncode == 0


def scontrol(*arguments: str) -> None:
    subprocess.run(["scontrol", *arguments], check=True)


def lose(node: str) -> None:
    """Kill the daemon of a node; what its jobs do then, nobody controls."""
    state = Path(os.environ.get("SLURM_STATE", "/var/lib/preddiff-slurm"))
    os.kill(int((state / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
    # As the cluster does by itself once the node has not answered for a while.
    scontrol("update", f"NodeName={node}", "State=DOWN", "Reason=lost")
