"""What the subjects of a training must tell of nuisance variables that are regressed out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.model_selection import StratifiedKFold

from preddiff.classifiers.regressable import untold
from preddiff.classifiers.regression import LinearRegression
from preddiff.classifiers.svm import SupportVectorClassifier
from preddiff.datasets.nuisance import design
from preddiff.errors import InputError
from preddiff.stages.train import train
from tests.unit.datasets.stores import write_store

SUBJECTS, SEED = 24, 0
GROUPS = np.arange(SUBJECTS) % 2
AGES = np.random.default_rng(0).integers(20, 80, SUBJECTS)
SVM = SupportVectorClassifier(kind="svm", dataset="data", slices=(0, 2), folds=3)
REGRESSION = LinearRegression(kind="regression", dataset="data", slices=(0, 2), folds=3)


def run(path: Path, settings: Any, variables: dict[str, Any], **more: Any) -> None:
    """Train on a cohort with some variables, all of which are regressed out."""
    rows = list(
        zip(*([str(value) for value in column] for column in variables.values()), strict=True)
    )
    found = design(list(variables), [f"item-{n}" for n in range(SUBJECTS)], rows)
    items = write_store(
        path / "data.zarr",
        np.random.default_rng(1).normal(size=(SUBJECTS, 3, 3, 3)).astype(np.float32),
        affine=np.eye(4),
        classes=["control", "patient"],
        numbers=GROUPS.tolist(),
        value=("age", AGES.astype(float)),
        nuisance=(found.columns, found.values),
        levels=found.levels,
        **more,
    )
    chosen = settings.model_copy(update={"regress_out": list(variables)})
    train(items.path, chosen, SEED, path / "out")


def with_rare(rare: list[int], value: str = "B", common: str = "A") -> list[str]:
    return [value if number in rare else common for number in range(SUBJECTS)]


def held_out_of(fold: int) -> list[int]:
    splitter = StratifiedKFold(3, shuffle=True, random_state=SEED)
    return [test.tolist() for _, test in splitter.split(GROUPS, GROUPS)][fold]


small = st.integers(-2, 2).map(float)


@given(st.data(), st.integers(1, 5), st.integers(1, 4))
def test_rows_are_told_if_they_do_not_add_to_the_rank(data: Any, rows: int, columns: int) -> None:
    values = data.draw(arrays(float, (rows + 3, columns), elements=small))
    scale = data.draw(st.sampled_from([1.0, 1e5]))
    full = np.column_stack([np.ones(rows + 3), values])
    rank = np.linalg.matrix_rank(full[:rows])
    expected = [np.linalg.matrix_rank(full[[*range(rows), rows + n]]) > rank for n in range(3)]
    # In other units, and from another origin, nothing changes.
    values = values * np.array([scale, *[1.0] * (columns - 1)]) + 30
    assert untold(values[:rows], values[rows:]).tolist() == expected


def test_variables_that_all_folds_have_are_accepted(tmp_path: Path) -> None:
    sites = [("a", "b", "c")[number // 2 % 3] for number in range(SUBJECTS)]
    run(tmp_path, SVM, {"age": AGES, "site": sites})
    assert (tmp_path / "out/classifier.json").exists()


@pytest.mark.parametrize(("value", "common"), [("B", "A"), ("A", "B")])
def test_a_value_of_one_subject_is_refused(value: str, common: str, tmp_path: Path) -> None:
    """Whether or not it is the one that the indicators are counted from."""
    message = r"train fold \d has the 'scanner' of subject 'item-5'.*merge rare values"
    with pytest.raises(InputError, match=message):
        run(tmp_path, SVM, {"scanner": with_rare([5], value, common)})


def test_values_that_one_fold_holds_out_are_refused(tmp_path: Path) -> None:
    together, other = held_out_of(2)[:2], held_out_of(1)[0]
    message = rf"none .* that train fold 2 has the 'scanner' of subject 'item-{together[0]}'"
    with pytest.raises(InputError, match=message):
        run(tmp_path, SVM, {"scanner": with_rare(together)})
    run(tmp_path, SVM, {"scanner": with_rare([together[0], other])})


def test_numbers_that_are_the_same_in_a_training_part_are_refused(tmp_path: Path) -> None:
    doses = np.zeros(SUBJECTS)
    doses[held_out_of(0)] = np.arange(8)
    with pytest.raises(InputError, match="train fold 0 has the 'dose' of subject"):
        run(tmp_path, SVM, {"dose": doses})


def test_values_of_subjects_that_are_not_trained_on_are_refused(tmp_path: Path) -> None:
    training = [number < 20 for number in range(SUBJECTS)]
    with pytest.raises(InputError, match="train the model has the 'scanner' of subject 'item-22'"):
        run(tmp_path, SVM, {"scanner": with_rare([22, 23])}, training=training)


def test_variables_that_only_one_subject_tells_apart_are_refused(tmp_path: Path) -> None:
    scanners = [("A", "B")[number // 2 % 2] for number in range(SUBJECTS)]
    sites = [scanner.lower() for scanner in scanners]
    run(tmp_path, SVM, {"scanner": scanners, "site": sites})
    sites[7] = "a" if sites[7] == "b" else "b"
    message = r"effects of 'scanner', 'site' apart, as subject 'item-7' needs"
    with pytest.raises(InputError, match=message):
        run(tmp_path, SVM, {"scanner": scanners, "site": sites})


@pytest.mark.parametrize(("more", "fewest"), [({}, 16), ({"C": [0.1, 1.0], "inner_folds": 2}, 8)])
def test_as_many_columns_as_subjects_are_refused(
    more: dict[str, Any], fewest: int, tmp_path: Path
) -> None:
    columns = range(fewest - 1)
    generator = np.random.default_rng(2)
    movements = {f"m{number}": generator.normal(size=SUBJECTS) for number in columns}
    settings = SVM.model_copy(update=more)
    message = rf"{len(columns)} columns .*'m0', 'm1', .* of the voxels of the {fewest} subjects"
    with pytest.raises(InputError, match=message):
        run(tmp_path, settings, movements)
    del movements["m0"]
    run(tmp_path, settings, movements)


def test_what_is_predicted_is_not_regressed_out(tmp_path: Path) -> None:
    scanners = [("A", "B")[group] for group in GROUPS]
    with pytest.raises(InputError, match=r"\('scanner'\) tell 'control' of each subject without"):
        run(tmp_path, SVM, {"scanner": scanners})
    with pytest.raises(InputError, match=r"\('months', 'sex'\) tell 'age' of each subject"):
        run(tmp_path, REGRESSION, {"months": 12 * AGES + 3, "sex": with_rare(list(range(12)))})
    run(tmp_path, REGRESSION, {"scanner": scanners})
    run(tmp_path, SVM, {"age": AGES})


def test_inner_folds_may_lack_a_value(tmp_path: Path) -> None:
    first, other = held_out_of(0)[0], held_out_of(1)[0]
    settings = SVM.model_copy(update={"C": [0.1, 1.0], "inner_folds": 2})
    run(tmp_path, settings, {"scanner": with_rare([first, other])})
    assert (tmp_path / "out/classifier.json").exists()
