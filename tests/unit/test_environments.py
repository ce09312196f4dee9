"""The conda environment names the dependencies of pyproject.toml."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"torch": "pytorch"}


def test_conda_environment_is_in_step_with_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "envs/preddiff.yaml").read_text())
    wanted = {"python": project["requires-python"], "pip": ""}
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["demo"], *extras["monai"]]:
        name, version = line.split(">=")
        if name != "snakemake":  # runs outside the rules' environments
            wanted[CONDA_NAMES.get(name, name)] = f">={version}"
    *conda, by_pip = environment["dependencies"]
    found = dict(line.partition(" ")[::2] for line in [*conda, *by_pip["pip"]])
    assert found == wanted
