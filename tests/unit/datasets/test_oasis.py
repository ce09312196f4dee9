"""The OASIS cohort's table, from a data folder laid out as nilearn leaves it on disk."""

from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preddiff.datasets.oasis import match_ages, write_oasis
from preddiff.errors import InputError

# The first eight subjects of the DARTEL version: nilearn knows that number 8 does not exist.
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9)
HEADER = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"
# Number: sex, age, CDR. 1 and 5 are demented; 2 is too young, 9 unrated, 4 and 6 the nearest.
SUBJECTS = {
    1: ("F", 74, "0.5"),
    2: ("M", 40, "0"),
    3: ("F", 81, "0"),
    4: ("M", 75, "0"),
    5: ("M", 83, "1"),
    6: ("F", 84, "0"),
    7: ("F", 60, "0"),
    9: ("M", 74, ""),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is missing cannot be downloaded: the proxy is a port where nobody listens."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("NILEARN_SHARED_DATA", raising=False)


def name(number: int) -> str:
    return f"OAS1_{number:04d}_MR1"


def lay_out(data_dir: Path, subjects: dict[int, tuple[str, int, str]] = SUBJECTS) -> Path:
    """Fill `data_dir` as a finished fetch does; every volume holds its subject's number."""
    oasis = data_dir / "oasis1"
    for number in subjects:
        (oasis / name(number)).mkdir(parents=True)
        for tissue in (1, 2):
            file = oasis / name(number) / f"mwrc{tissue}{name(number)}_mpr_anon_fslswapdim_bet"
            volume = np.full((2, 2, 2), 10 * tissue + number / 10, dtype=np.float32)
            nib.save(nib.Nifti1Image(volume, np.diag([2, 2, 2, 1])), f"{file}.nii.gz")
    # Not in the order of the files, and with a rescan, which is not the same as the first visit.
    rows = [
        f"{name(number)},{sex},R,{age},,,,{cdr},1500,0.8,1.2,N/A"
        for number, (sex, age, cdr) in reversed(subjects.items())
    ]
    rows.append("OAS1_0001_MR2,F,R,99,,,,2,1500,0.8,1.2,40")
    (oasis / "oasis_cross-sectional.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (oasis / "data_usage_agreement.txt").write_text("Agree.\n")
    return data_dir


def test_table_of_matched_pairs(tmp_path: Path) -> None:
    data_dir = lay_out(tmp_path / "data")
    path = write_oasis(tmp_path / "cohort", subjects=len(NUMBERS), data_dir=data_dir)

    assert path == tmp_path / "cohort" / "participants.tsv"
    assert [entry.name for entry in path.parent.iterdir()] == ["participants.tsv"]
    table = pd.read_csv(path, sep="\t")
    assert list(table) == ["participant_id", "group", "gm", "age", "sex", "cdr"]
    assert list(table["participant_id"]) == [name(number) for number in (1, 4, 5, 6)]
    assert list(table["group"]) == ["demented", "control", "demented", "control"]
    assert list(table["age"]) == [74, 75, 83, 84]
    assert list(table["sex"]) == ["F", "M", "M", "F"]
    assert list(table["cdr"]) == [0.5, 0, 1, 0]


@pytest.mark.parametrize(("tissue", "base"), [("gm", 10), ("wm", 20)])
@pytest.mark.parametrize("below", [True, False])
def test_files_are_the_subjects_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tissue: str, base: int, below: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("cohort")
    data_dir = lay_out(folder / "data" if below else Path("elsewhere"))
    path = write_oasis(folder, subjects=len(NUMBERS), tissue=tissue, data_dir=data_dir)

    table = pd.read_csv(path, sep="\t").set_index("participant_id")
    for number in (1, 4, 5, 6):
        file = Path(table.loc[name(number), tissue])
        assert file.is_absolute() != below
        value = nib.load(tmp_path / folder / file).get_fdata()[0, 0, 0]
        assert value == pytest.approx(base + number / 10)


def test_fewer_subjects_and_wider_gap(tmp_path: Path) -> None:
    data_dir = lay_out(tmp_path / "data")
    with pytest.raises(InputError, match=r"no demented subject among the 2 .* within 3 years"):
        write_oasis(tmp_path, subjects=2, data_dir=data_dir)
    table = pd.read_csv(write_oasis(tmp_path, subjects=2, age_gap=40, data_dir=data_dir), sep="\t")
    assert list(table["age"]) == [74, 40]


@pytest.mark.parametrize(
    ("cdr", "message"), [("0", "rating above 0"), ("0.5", "rating of 0"), ("", "rating above 0")]
)
def test_empty_group_is_an_error(tmp_path: Path, cdr: str, message: str) -> None:
    subjects = {number: ("F", 70, cdr) for number in NUMBERS}
    data_dir = lay_out(tmp_path / "data", subjects)
    with pytest.raises(
        InputError, match=rf"none of the 8 subjects .*{message}; increase `subjects`"
    ):
        write_oasis(tmp_path, subjects=len(NUMBERS), data_dir=data_dir)
    assert not (tmp_path / "participants.tsv").exists()


def test_failed_download_names_the_folder(tmp_path: Path) -> None:
    data_dir = lay_out(tmp_path / "data")
    with pytest.raises(InputError, match="on a machine with internet access") as error:
        write_oasis(tmp_path, subjects=len(NUMBERS) + 1, data_dir=data_dir)
    assert str(data_dir / "oasis1") in str(error.value)


AGES = st.lists(st.integers(60, 75), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(AGES, AGES, st.integers(0, 8))
def test_matching_is_the_best_of_all(patients: list[int], controls: list[int], gap: int) -> None:
    """Against every way there is to pair them: most pairs, then the smallest sum of gaps."""
    few, many = sorted((patients, controls), key=len)
    best = max(
        (len(close), -sum(close))
        for chosen in permutations(many, len(few))
        for close in [[abs(a - b) for a, b in zip(few, chosen, strict=True) if abs(a - b) <= gap]]
    )

    left, right = match_ages(pd.Series(patients), pd.Series(controls), gap)
    gaps = np.abs(left.to_numpy() - right.to_numpy())
    assert left.index.is_unique and right.index.is_unique
    assert (gaps <= gap).all()
    assert (len(gaps), -gaps.sum()) == best
