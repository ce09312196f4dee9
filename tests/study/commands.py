"""Running Snakemake and the command line in tests."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def snakemake_command(config: Path) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    return [*command, "--configfile", str(config), "--cores", "2", "--workflow-profile", "none"]


def snakemake(
    folder: Path, config: Path, *arguments: str, package: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder; the package is taken from another folder where one is given."""
    command = [*snakemake_command(config), *arguments]
    environment = os.environ | ({"PYTHONPATH": str(package)} if package else {})
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def preddiff(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "preddiff", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def planned(
    folder: Path, config: Path, *arguments: str, package: Path | None = None
) -> dict[str, int]:
    """Rules that would run, and how often, from a dry run."""
    done = snakemake(folder, config, "-n", "--quiet", "rules", *arguments, package=package)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    jobs = {x[0]: int(x[1]) for x in lines if len(x) == 2 and x[1].isdigit()}
    return {rule: count for rule, count in jobs.items() if rule not in ("total", "all")}


def chunks_of(store: Path, name: str, item: int) -> Path:
    """The file that holds all blocks of an item, of one array of an expectation store."""
    (file,) = (store / name).glob(f"c.{item}.*")
    return file
