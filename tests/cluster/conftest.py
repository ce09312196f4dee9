"""A real Slurm of two nodes on this host, with one pretend GPU each."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Start the cluster, and stop it at the end."""
    lacking = [name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name) is None]
    if lacking:
        pytest.skip(
            f"Slurm is not installed ({', '.join(lacking)}): apt-get install slurm-wlm munge"
        )
    if os.geteuid() != 0:
        pytest.skip("starting Slurm needs root")
    pytest.importorskip("snakemake_executor_plugin_slurm")
    up = subprocess.run([HERE / "up.sh"], capture_output=True, text=True, check=False)
    if "a Slurm of its own" in up.stderr:
        pytest.skip(up.stderr.strip())
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield
    finally:
        subprocess.run([HERE / "down.sh"], check=True)
