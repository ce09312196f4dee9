"""Cohorts of volumes: their tables, and NIfTI files on one grid."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from preddiff.datasets.volumes import Columns, Volume, read_table, read_volume, require_same_grid
from preddiff.errors import InputError
from preddiff.settings.base import validate

ROWS = [
    "participant_id\tgroup\tfa\tmask",
    "a\tcontrol\ta.nii\tn/a",
    "b\tpatient\tb.nii\tb_mask.nii",
]
COLUMNS = Columns(truth="mask")


def write(path: Path, rows: list[str], separator: str = "\t") -> Path:
    path.write_text("\n".join(rows).replace("\t", separator) + "\n")
    return path


def test_subjects_are_read_in_the_order_of_the_table(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", [ROWS[0], " c \t patient\t/data/c.nii\t", *ROWS[1:]])
    found = read_table(path, COLUMNS)
    assert [(s.name, s.group) for s in found] == [
        ("c", "patient"),
        ("a", "control"),
        ("b", "patient"),
    ]
    assert [s.files for s in found] == [
        (path,) for path in (Path("/data/c.nii"), tmp_path / "a.nii", tmp_path / "b.nii")
    ]
    assert [s.truth for s in found] == [None, None, tmp_path / "b_mask.nii"]
    assert all(s.truth is None for s in read_table(path, Columns()))


@pytest.mark.parametrize("balance", [True, False])
def test_training_takes_the_first_of_the_larger_class(tmp_path: Path, balance: bool) -> None:
    groups = ["patient", "patient", "control", "patient", "control", "patient"]
    rows = [f"s{n}\t{group}\ts.nii\tn/a" for n, group in enumerate(groups)]
    path = write(tmp_path / "t.tsv", [ROWS[0], *rows])
    found = [s.training for s in read_table(path, Columns(balance=balance))]
    assert found == ([True, True, True, False, True, False] if balance else [True] * 6)


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".Csv"])
def test_tables_separated_by_commas(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", ROWS, ",")
    assert [s.name for s in read_table(path, COLUMNS)] == ["a", "b"]


def test_empty_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    rows = [ROWS[0], "", *ROWS[1:], "\t\t\t", "a\tcontrol\ta.nii\tn/a", ""]
    with pytest.raises(InputError, match="line 6: subject 'a' is listed twice"):
        read_table(write(tmp_path / "t.tsv", rows), COLUMNS)
    found = read_table(write(tmp_path / "t.tsv", [*rows[:4], ""]), COLUMNS)
    assert [s.name for s in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0]], "no subject has group 'control'"),
        ([row.replace("fa", "gm") for row in ROWS], "no column 'fa'; it has participant_id, "),
        ([row.replace("mask", "") for row in ROWS], "no column 'mask'"),
        ([row.replace("\t", ",") for row in ROWS], "separated by commas"),
        ([*ROWS, "\tcontrol\tc.nii\tn/a"], "line 4: the subject has no name"),
        ([*ROWS, "b\tcontrol\tc.nii\tn/a"], "line 4: subject 'b' is listed twice"),
        ([*ROWS, "c\tother\tc.nii\tn/a"], "subject 'c' has group 'other', but the classes are"),
        ([*ROWS, "c\tcontrol\tN/A\tn/a"], "subject 'c' has no file"),
        (ROWS[:2], "no subject has group 'patient'; all classes are needed"),
        # Rows that end with a separator: the first column is not an index.
        ([ROWS[0], *(f"{row}\t" for row in ROWS[1:])], "more cells than the header"),
        ([*ROWS, "c\tcontrol\tc.nii\tn/a\tx"], "line 4: the row has more cells than the header"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_table(write(tmp_path / "t.tsv", rows), COLUMNS)
    assert str(error.value).startswith(str(tmp_path / "t.tsv"))


def test_a_folder_or_nothing_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.tsv: no such table; name yours as the dataset's"):
        read_table(tmp_path / "t.tsv", COLUMNS)
    with pytest.raises(InputError, match="not readable"):
        read_table(tmp_path, COLUMNS)


def save(path: Path, values: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(values, np.diag([-2.0, 2, 2, 1])), path)
    return path


def test_a_single_volume_in_time_is_a_volume(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for name, stored in (("a.nii", values), ("b.nii.gz", values[..., None])):
        found = read_volume(save(tmp_path / name, stored), "s")
        assert np.array_equal(found.values, values) and found.values.dtype == np.float32
        assert np.array_equal(found.affine, np.diag([-2.0, 2, 2, 1]))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "no such file"),
        ("truncated", "not readable as NIfTI, or truncated"),
        ("text", "not readable as NIfTI, or truncated"),
        ("series", "has 4 dimensions, but volumes have three"),
        ("nan", "contains 2 values that are NaN or infinite"),
    ],
)
def test_bad_volumes_are_refused(tmp_path: Path, fault: str, message: str) -> None:
    values = np.zeros((8, 8, 8, 2) if fault == "series" else (8, 8, 8), dtype=np.float32)
    if fault == "nan":
        values[0, 0, :2] = np.nan, np.inf
    path = save(tmp_path / "a.nii", values)
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif fault == "text":
        path.write_text("no image")
    with pytest.raises(InputError, match=rf"subject 'sub-7': .*a\.nii.*{message}"):
        read_volume(path, "sub-7")


def test_another_grid_is_refused() -> None:
    values, affine = np.zeros((2, 3, 4), dtype=np.float32), np.eye(4)
    first = Volume(values, affine)
    require_same_grid(first, Volume(values + 1, affine + 1e-4), Path("b.nii"), "b")
    with pytest.raises(InputError, match=r"subject 'b': b\.nii has shape .* resample"):
        require_same_grid(first, Volume(values[1:], affine), Path("b.nii"), "b")
    with pytest.raises(InputError, match=r"subject 'b': b\.nii has another affine"):
        require_same_grid(first, Volume(values, affine + 0.01), Path("b.nii"), "b")


MORE = [
    "participant_id\tgroup\tgm\twm\tage\tsex\tsite",
    "a\tyoung\ta1.nii\ta2.nii\t20.5\tF\t1",
    "b\told\tb1.nii\tb2.nii\t71\tM\t2",
    "c\tmiddle\tc1.nii\tc2.nii\t45\tM\t1",
]
SEVERAL = Columns(
    file=["gm", "wm"],
    classes=["young", "middle", "old"],
    value="age",
    nuisance=["sex", "site"],
    standardise="none",
)


def test_several_groups_files_and_variables(tmp_path: Path) -> None:
    found = read_table(write(tmp_path / "t.tsv", MORE), SEVERAL)
    assert [s.group for s in found] == ["young", "old", "middle"]
    assert found[1].files == (tmp_path / "b1.nii", tmp_path / "b2.nii")
    assert [s.value for s in found] == [20.5, 71, 45]
    assert [s.nuisance for s in found] == [("F", "1"), ("M", "2"), ("M", "1")]
    no_groups = read_table(tmp_path / "t.tsv", Columns(group=None, file="gm", value="age"))
    assert [(s.group, s.training) for s in no_groups] == [("", True)] * 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("20.5", "n/a", "subject 'a' has no value in column 'age'"),
        ("20.5", "old", "subject 'a': 'old' in column 'age' is no number"),
        ("\tF\t", "\t\t", "subject 'a' has no value in column 'sex'"),
        ("b2.nii", "n/a", "subject 'b' has no file"),
        ("site", "scanner", "there is no column 'site'"),
    ],
)
def test_missing_values_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    rows = [row.replace(old, new) for row in MORE]
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / "t.tsv", rows), SEVERAL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": None}, "group and value are both null"),
        ({"standardise": "mask"}, "standardise: mask and a mask are needed together"),
        ({"mask": "mask.nii"}, "standardise: mask and a mask are needed together"),
        ({"classes": ["a"]}, "classes"),
        ({"classes": ["a", "b", "a"]}, "all names must differ"),
        ({"nuisance": ["age", "age"]}, "all names must differ"),
        ({"file": []}, "file"),
        ({"file": ["fa", "t1"]}, "set standardise to volume or mask, or to none"),
        ({"file": ["fa", "fa"]}, "file: all names must differ"),
        ({"group": None, "value": "age", "classes": ["a", "b"]}, "classes is for cohorts with"),
        ({"group": None, "value": "age", "balance": False}, "balance is for .* but group is null"),
    ],
)
def test_bad_columns_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(Columns, settings, "columns")
