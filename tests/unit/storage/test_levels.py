"""Stores of levels: what is written is read, and what cannot be right is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preddiff.drawn import Drawn
from preddiff.errors import InputError
from preddiff.storage.filled import FILLED, BlockCounts, carry_over, has_levels, share_done
from preddiff.storage.levels import LEVELS, LevelStore, level_variables
from preddiff.storage.stores import create
from preddiff.windows import Windows

WINDOWS = Windows((6, 7), 3)
TARGETS = ("probability:cat", "logit:dog")


@pytest.fixture
def store(tmp_path: Path) -> LevelStore:
    return make_store(tmp_path / "e.zarr")


@pytest.fixture
def in_two(tmp_path: Path) -> LevelStore:
    """Store of draws in reduced precision."""
    return make_store(tmp_path / "two.zarr", in_two_precisions=True)


def make_store(path: Path, items: str = "abc", in_two_precisions: bool = False) -> LevelStore:
    variables = level_variables(len(items), len(TARGETS), WINDOWS, in_two_precisions)
    create(
        path,
        variables,
        {
            "item": ("item", np.array(list(items))),
            "target": ("target", np.array(TARGETS)),
            "item_digest": ("item", np.array([f"digest of {name}" for name in items])),
        },
        {"k": 3},
        {
            "space": [6, 7], "k": 3, "accuracy": 0.02, "training_size": 100,
            "classes": ["cat", "dog"], "is_random": True, FILLED: list(variables),
        },
    )  # fmt: skip
    return LevelStore(path, "r+")


def level(seed: int) -> Drawn:
    random = np.random.default_rng(seed)
    draws = 2 * random.integers(0, 3, WINDOWS.shape)
    values = random.normal(size=(2, 2, *WINDOWS.shape)).astype(np.float32).astype(np.float64)
    change, variance = np.where(draws > 0, values, 0)
    return Drawn(np.array([0.25, -2.0]), draws, change, np.abs(variance))


def in_both(seed: int) -> Drawn:
    """A level of draws in reduced precision, of which some are made in float32 too."""
    shift = replace(level(seed + 100), reference=np.zeros(2))
    return replace(level(seed), shift=shift)


def fill(store: LevelStore, item: int, errors: tuple[float, ...]) -> None:
    passes = 0
    for number, error in enumerate(errors):
        make = in_both if store.refinement.in_two_precisions else level
        found = make(10 * item + number)
        passes += found.passes
        store.write(item, number, found, passes, np.array([error, error / 2]))


def test_what_is_written_is_read(store: LevelStore) -> None:
    fill(store, 1, (0.5, 0.1, 0.01))
    found = LevelStore(store.path).read(1, 3)
    for number, one in enumerate(found):
        expected = level(10 + number)
        for name in ("reference", "draws", "change", "variance"):
            assert np.array_equal(getattr(one, name), getattr(expected, name))
    passes, reached = store.errors(1)
    assert list(passes) == list(np.cumsum([one.passes for one in found]))
    assert reached.tolist() == [[0.5, 0.25], [0.1, 0.05], [0.01, 0.005]]
    total = store.drawn(1, 3)
    assert np.array_equal(total.draws, sum(one.draws for one in found))
    assert [len(store.errors(item)[1]) for item in range(3)] == [0, 3, 0]
    assert all(store.damaged(item) == [] for item in range(3))


def test_the_shift_of_reduced_precision_is_read(in_two: LevelStore) -> None:
    fill(in_two, 1, (0.5, 0.1))
    # A level may have no draws in float32.
    last = replace(level(12), shift=Drawn.nothing(WINDOWS, 2))
    passes = int(in_two.errors(1)[0][-1]) + last.passes
    in_two.write(1, 2, last, passes, np.array([0.1, 0.1]))
    found = LevelStore(in_two.path).read(1, 3)
    for one, expected in zip(found, (in_both(10), in_both(11), last), strict=True):
        assert one.shift is not None and expected.shift is not None
        for name in ("reference", "draws", "change", "variance"):
            assert np.array_equal(getattr(one, name), getattr(expected, name))
            assert np.array_equal(getattr(one.shift, name), getattr(expected.shift, name))
    assert in_two.damaged(1) == []
    in_two.discard(1, 2)
    assert list(in_two.errors(1)[0]) == list(np.cumsum([in_both(n).passes for n in (10, 11)]))


@pytest.mark.parametrize("name", ["draws_in_both", "shift", "shift_variance", "draws"])
def test_a_lost_file_of_a_shift_is_noticed(in_two: LevelStore, name: str) -> None:
    fill(in_two, 0, (0.5, 0.1))
    for file in (in_two.path / name).rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.unlink()
    assert LevelStore(in_two.path).damaged(0) == [0, 1]


def test_a_shift_that_is_not_finite_is_refused(in_two: LevelStore) -> None:
    found = in_both(0)
    assert found.shift is not None
    found.shift.change[(0, *np.argwhere(found.shift.draws > 0)[0])] = np.nan
    with pytest.raises(InputError, match="item 'a': an expectation or variance is too large"):
        in_two.write(0, 0, found, found.passes, np.array([0.1, 0.1]))


def test_counts_need_no_values(store: LevelStore) -> None:
    fill(store, 1, (0.5, np.inf, 0.1))
    counts = BlockCounts(store.path)
    assert has_levels(store.path) and counts.has_levels
    assert (counts.items, counts.blocks, counts.items_begun()) == (3, LEVELS, [1])
    assert counts.blocks_written(1) == 3 and counts.blocks_written(0) == 0
    assert list(counts.errors(1)) == [0.5, np.inf, 0.1]


@pytest.mark.parametrize(
    ("errors", "share"),
    [((), 0), ((0.04,), 0.25), ((0.2, 0.02), 1), ((0.01, 0.03), 1), ((np.inf,), 0)],
)
def test_work_falls_with_the_square_of_the_error(errors: tuple[float, ...], share: float) -> None:
    assert share_done(np.array(errors), 0.02) == pytest.approx(share)


@pytest.mark.parametrize("name", ["change", "variance"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused(store: LevelStore, name: str, value: float) -> None:
    found = level(0)
    place = tuple(np.argwhere(found.draws > 0)[0])
    getattr(found, name)[(0, *place)] = value
    with (
        np.errstate(over="ignore"),
        pytest.raises(InputError, match="item 'a': an expectation or variance is too large"),
    ):
        store.write(0, 0, found, found.passes, np.array([0.1, 0.1]))
    assert BlockCounts(store.path).items_begun() == []


def test_an_accuracy_that_is_out_of_reach_is_refused(store: LevelStore) -> None:
    with pytest.raises(InputError, match=r"error is 0\.1 after 40 levels and 9,000 forward passes"):
        store.write(0, LEVELS, level(0), 9000, np.array([0.1, 0.05]))


def test_levels_from_a_damaged_one_on_are_discarded(store: LevelStore) -> None:
    fill(store, 0, (0.5, 0.2, 0.1))
    fill(store, 1, (0.5,))
    store.discard(0, 1)
    passes, reached = store.errors(0)
    assert list(passes) == [level(0).passes] and reached.tolist() == [[0.5, 0.25]]
    assert np.array_equal(store.read(0, 1)[0].change, level(0).change)
    assert len(store.errors(1)[1]) == 1


def test_items_are_carried_over(store: LevelStore, tmp_path: Path) -> None:
    fill(store, 2, (0.5, 0.2))
    new = make_store(tmp_path / "new.zarr", "cd")
    carry_over(store.path, new.path, {2: 0})
    assert new.errors(0)[1].tolist() == store.errors(2)[1].tolist()
    assert np.array_equal(new.read(0, 2)[1].variance, level(21).variance)
    assert len(new.errors(1)[1]) == 0
