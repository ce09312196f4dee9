"""Stage prepare: stores of several channels, standardised values, values and nuisance variables."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from preddiff.datasets.items import Items
from preddiff.datasets.volumes import Columns
from preddiff.errors import InputError
from preddiff.stages.prepare import prepare

SHAPE = (5, 6, 4)


def save(path: Path, values: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2, 2, 1])), path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    rows = []
    for number, group in enumerate(["young", "old", "middle", "old"]):
        for tissue in ("gm", "wm"):
            save(tmp_path / f"{number}-{tissue}.nii", generator.gamma(2.0, size=SHAPE))
        files = {tissue: f"{number}-{tissue}.nii" for tissue in ("gm", "wm")}
        about = {"age": 20 + 9.5 * number, "sex": "FM"[number % 2]}
        rows.append({"participant_id": f"s{number}", "group": group, **files, **about})
    path = tmp_path / "participants.tsv"
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


COLUMNS = Columns(
    file=["gm", "wm"],
    classes=["young", "middle", "old"],
    value="age",
    nuisance=["sex"],
    standardise="none",
)


def volumes(table: Path, tissue: str) -> np.ndarray:
    return np.stack(
        [nib.load(table.parent / f"{n}-{tissue}.nii").get_fdata(dtype=np.float32) for n in range(4)]
    )


def test_each_column_of_files_is_a_channel(table: Path, tmp_path: Path) -> None:
    prepare(table, COLUMNS, tmp_path / "d.zarr")
    items = Items(tmp_path / "d.zarr")
    expected = np.stack([volumes(table, "gm"), volumes(table, "wm")], axis=1)
    assert np.array_equal(items.read(range(4)), expected)
    assert items.channels == 2 and items.space == SHAPE and items.are_volumes
    assert items.classes == ("young", "middle", "old")
    assert items.class_numbers.tolist() == [0, 2, 1, 2]
    # Of larger classes, the first subjects are used.
    assert items.training.tolist() == [True, True, True, False]
    assert items.value_name == "age" and items.values.tolist() == [20, 29.5, 39, 48.5]
    assert items.nuisance_names == ("sex=M",) and items.nuisance[:, 0].tolist() == [0, 1, 0, 1]
    assert items.nuisance_levels == {"sex": ("F", "M")}
    opened = xr.open_zarr(tmp_path / "d.zarr")
    assert opened["channel"].values.tolist() == ["gm", "wm"]


def test_values_without_groups(table: Path, tmp_path: Path) -> None:
    prepare(table, Columns(group=None, file="gm", value="age"), tmp_path / "d.zarr")
    items = Items(tmp_path / "d.zarr")
    assert items.classes == () and items.class_numbers.tolist() == [-1] * 4 and items.training.all()
    assert items.channels == 1 and items.nuisance.shape == (4, 0)


def test_volumes_are_standardised_one_by_one(table: Path, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE)
    mask[1:4, 2:5] = 1
    save(tmp_path / "mask.nii", mask)
    whole = COLUMNS.model_copy(update={"standardise": "volume"})
    inside = COLUMNS.model_copy(update={"standardise": "mask", "mask": tmp_path / "mask.nii"})
    prepare(table, whole, tmp_path / "whole.zarr")
    prepare(table, inside, tmp_path / "inside.zarr")
    x, y = (Items(tmp_path / f"{name}.zarr").read(range(4)) for name in ("whole", "inside"))
    np.testing.assert_allclose(x.mean(axis=(2, 3, 4)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(2, 3, 4)), 1, rtol=1e-5)
    chosen = y[..., mask > 0]
    np.testing.assert_allclose(chosen.mean(axis=2), 0, atol=1e-6)
    np.testing.assert_allclose(chosen.std(axis=2), 1, rtol=1e-5)
    assert abs(y.mean()) > 1e-3


def test_bad_data_is_refused(table: Path, tmp_path: Path) -> None:
    save(tmp_path / "2-wm.nii", np.ones(SHAPE))
    with pytest.raises(InputError, match=r"subject 's2': .*2-wm\.nii is constant"):
        prepare(table, COLUMNS.model_copy(update={"standardise": "volume"}), tmp_path / "d.zarr")
    save(tmp_path / "mask.nii", np.zeros(SHAPE))
    empty = COLUMNS.model_copy(update={"standardise": "mask", "mask": tmp_path / "mask.nii"})
    with pytest.raises(InputError, match=r"^[^']*mask\.nii: the mask is empty"):
        prepare(table, empty, tmp_path / "d.zarr")
    save(tmp_path / "1-gm.nii", np.ones((3, 3, 3)))
    with pytest.raises(InputError, match=r"subject 's1': .*1-gm\.nii has shape"):
        prepare(table, COLUMNS, tmp_path / "d.zarr")
    text = table.read_text().replace("\tM", "\tF")
    table.write_text(text)
    with pytest.raises(InputError, match=r"participants\.tsv: the nuisance variable 'sex' is the"):
        prepare(table, COLUMNS, tmp_path / "d.zarr")
    assert not (tmp_path / "d.zarr").exists()


def test_a_cell_that_is_no_number_is_named(table: Path, tmp_path: Path) -> None:
    text = table.read_text()
    table.write_text(text.replace("\t29.5\t", "\t.\t"))
    assert table.read_text() != text
    columns = Columns(file="gm", classes=COLUMNS.classes, nuisance=["age"])
    with pytest.raises(InputError, match=r"participants\.tsv: subject 's1': '\.' is no number"):
        prepare(table, columns, tmp_path / "d.zarr")
