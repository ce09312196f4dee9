"""Leases of devices, with pretend ones, by real processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from preddiff import devices
from preddiff.errors import InputError

# Leases one of two devices, tells which, and holds it until its input ends.
JOB = """
import sys
from pathlib import Path
from preddiff.devices import lease
names = ["one", "two"]
number = lease(names, Path(sys.argv[1]))
assert lease(names, Path(sys.argv[1])) == number
print(names[number], flush=True)
sys.stdin.read()
"""


def job(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_jobs_lease_devices_of_their_own_and_the_dead_free_theirs(tmp_path: Path) -> None:
    first, second = job(tmp_path), job(tmp_path)
    leased = [one.stdout.readline().strip() for one in (first, second)]
    assert sorted(leased) == ["one", "two"]
    third = job(tmp_path)
    assert "all 2 GPUs are leased by other jobs" in third.stderr.readline()
    second.kill()
    assert third.stdout.readline().strip() == leased[1]
    fourth = job(tmp_path)
    assert "waiting" in fourth.stderr.readline()
    first.communicate("")
    assert first.returncode == 0
    assert fourth.stdout.readline().strip() == leased[0]
    for one in (third, fourth):
        one.communicate("")
    second.communicate()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device_of("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="torch finds no GPU on this machine"):
        devices.device_of("cuda")
