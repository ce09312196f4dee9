"""Names and files from outside: never shell words, paths, code or memory beyond what there is."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from preddiff.classifiers.checkpoint import read_state_dict
from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.storage.stores import array, open_store
from tests.study.cohort import small_study, write_cohort, write_config
from tests.study.commands import snakemake
from tests.study.photographs import image_study, write_photographs

HOSTILE = [
    "../../../pwned",
    "a b",
    "it's",
    'say "so"',
    "$(touch pwned)",
    "x; touch pwned",
    "`touch pwned`",
    "line\nbreak; touch pwned",
    "-rf",
    "*",
    "{config}",
    "~",
]


def all_files(folder: Path) -> set[Path]:
    return {
        path.relative_to(folder) for path in folder.rglob("*") if ".snakemake" not in path.parts
    }


def test_hostile_names_of_subjects_stay_names(tmp_path: Path) -> None:
    folder = tmp_path / "a/b/c/work"
    table = write_cohort(folder / "cohort")
    rows = pd.read_csv(table, sep="\t", keep_default_na=False)
    rows.loc[: len(HOSTILE) - 1, "participant_id"] = HOSTILE
    rows.to_csv(table, sep="\t", index=False)
    settings = small_study(table, "small")
    names = [name for name in HOSTILE if not name.startswith("-")]
    settings["explanations"] = {
        "marginal": {**settings["explanations"]["marginal"], "items": names, "nifti": True}
    }
    settings["page_items"] = 3
    settings["figures"] = {
        "weights": {
            "kind": "weights",
            "explanations": ["marginal"],
            "item": HOSTILE[0],
            "slices": [7],
        }
    }
    before = all_files(tmp_path)
    done = snakemake(folder, write_config(folder / "config.yaml", settings))
    assert done.returncode == 0, done.stdout + done.stderr
    relevance = xr.open_zarr(folder / "results/small/relevance/marginal.zarr")
    assert list(relevance["item"].values) == names
    added = all_files(tmp_path) - before
    results = (folder / "results").relative_to(tmp_path)
    config = (folder / "config.yaml").relative_to(tmp_path)
    assert all(path == config or path.is_relative_to(results) for path in added)
    assert (folder / "results/small/pages/cohort.html").is_file()
    niftis = list((folder / "results/small/relevance/marginal-nifti").glob("*.nii.gz"))
    assert len(niftis) == 2 * len(names)


def test_hostile_names_of_images_stay_names(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    photographs = write_photographs(folder / "photographs", count=12, faults=False)
    settings = image_study(photographs, "small")
    rows = pd.read_csv(photographs / "sheet.tsv", sep="\t")
    names = [f"{name}.png" for name in HOSTILE if "/" not in name]
    for number, name in enumerate(names):
        (photographs / f"image-{number}.png").rename(photographs / name)
        rows.loc[number, "file"] = name
    rows.to_csv(photographs / "sheet.tsv", sep="\t", index=False)
    before = all_files(tmp_path)
    done = snakemake(
        folder, write_config(folder / "config.yaml", settings), "--until", "prepare_images"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (data,) = (folder / "results/small/data").glob("*.zarr")
    assert set(names) <= set(xr.open_zarr(data)["item"].values)
    added = all_files(tmp_path) - before
    assert all(path.parts[1] in ("results", "config.yaml") for path in added)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["study", "dataset", "explanation", "figure"])
def test_hostile_names_in_the_configuration_are_refused(tmp_path: Path, name, place) -> None:
    from preddiff.settings.base import validate
    from preddiff.settings.study import Study

    settings = json.loads(json.dumps(small_study(tmp_path / "participants.tsv", "small")))
    if place == "study":
        settings["study"] = name
    else:
        section = settings[f"{place}s"]
        section[name] = section.pop(next(iter(section)))
    with pytest.raises(InputError):
        validate(Study, settings, "configuration")


class Pwned:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    bad = pickle.dumps(Pwned(tmp_path / "pwned"))
    (tmp_path / "weights.pth").write_bytes(bad)
    with pytest.raises(InputError, match=r"weights\.pth"):
        read_state_dict(tmp_path / "weights.pth")
    classifier = LinearClassifier(np.zeros((1, 2, 2, 2)), 0.0, ("a", "b"), 10, (0, 0, 0))
    classifier.save(tmp_path / "classifier", {})
    np.save(tmp_path / "classifier/weights.npy", np.array([Pwned(tmp_path / "pwned")]))
    with pytest.raises(InputError, match="not a trained classifier"):
        LinearClassifier.load(tmp_path / "classifier")
    # Version 2 of Zarr has a codec that unpickles.
    old = zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    old.create_array("mean", shape=(1,), dtype="float32")
    filters = tmp_path / "old.zarr/mean/.zarray"
    filters.write_text(
        json.dumps({**json.loads(filters.read_text()), "filters": [{"id": "pickle"}]})
    )
    (tmp_path / "old.zarr/mean/0").write_bytes(bad)
    with pytest.raises(InputError, match=r"old\.zarr"):
        open_store(tmp_path / "old.zarr")
    assert not (tmp_path / "pwned").exists()


def test_stores_that_no_memory_holds_are_refused_unread(tmp_path: Path) -> None:
    xr.Dataset({"mean": (("item", "x"), np.zeros((2, 3), dtype=np.float32))}).to_zarr(
        tmp_path / "e.zarr", zarr_format=3, consolidated=False
    )
    metadata = tmp_path / "e.zarr/mean/zarr.json"
    content = json.loads(metadata.read_text())
    content["shape"] = [2, 10**13]
    metadata.write_text(json.dumps(content))
    with pytest.raises(InputError, match="takes 80,000 GB of memory, but this machine has"):
        array(open_store(tmp_path / "e.zarr"), "mean")
