"""The phantom cohort: ordinary files whose truth is what was planted."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from preddiff.datasets.phantom import AFFINE, SHAPE, SLICES, anatomy, scan, write_phantom
from preddiff.errors import InputError


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_hold_the_scans_and_do_not_depend_on_processes(tmp_path: Path) -> None:
    table = write_phantom(tmp_path / "a", patients=2, controls=2, seed=3)
    write_phantom(tmp_path / "b", patients=2, controls=2, seed=3, processes=2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    rows = pd.read_csv(table, sep="\t", keep_default_na=False)
    assert sorted(rows["group"]) == ["control", "control", "patient", "patient"]
    assert set(rows.groupby("group")["scanner"].nunique()) == {2}
    for number, row in enumerate(rows.to_dict("records")):
        image = nib.load(tmp_path / "a" / row["fa"])
        assert image.shape == SHAPE and np.array_equal(image.affine, AFFINE)
        patient, scanner = row["group"] == "patient", "AB".index(row["scanner"])
        made = scan(anatomy(3), patient=patient, scanner=scanner, seed=3, subject=number)
        assert np.allclose(image.get_fdata(), made.anisotropy, atol=6e-5)
        assert image.get_fdata().min() >= 0 and image.get_fdata().max() <= 1
        if patient:
            assert np.array_equal(nib.load(tmp_path / "a" / row["truth"]).get_fdata(), made.truth)


def test_patients_differ_from_controls_in_the_lesions_alone() -> None:
    template = anatomy(1)
    patient = scan(template, patient=True, scanner=0, seed=1, subject=5)
    healthy = scan(template, patient=False, scanner=0, seed=1, subject=5)
    lost = healthy.anisotropy - patient.anisotropy
    assert patient.truth.any() and not healthy.truth.any()
    assert (lost >= 0).all()
    assert lost[patient.truth].mean() > 0.03
    inside = np.flatnonzero(patient.truth.any(axis=(1, 2)))
    assert inside[0] >= SLICES[0] and inside[-1] <= SLICES[1]
    assert healthy.anisotropy[patient.truth].min() > 0


def test_brains_look_like_anisotropy() -> None:
    made = scan(anatomy(1), patient=False, scanner=1, seed=1, subject=0).anisotropy
    brain = made[made > 0]
    assert 0.2 < len(brain) / made.size < 0.4
    assert 0.05 < np.quantile(brain, 0.1) < 0.25
    assert 0.4 < np.quantile(brain, 0.95) < 0.8
    other = scan(anatomy(1), patient=False, scanner=1, seed=1, subject=1).anisotropy
    assert 0.8 < np.corrcoef(made.reshape(-1), other.reshape(-1))[0, 1] < 0.99


def test_a_cohort_without_controls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has an empty group"):
        write_phantom(tmp_path, patients=3, controls=0)
