"""Expectation stores: what is refused, kept, found damaged, discarded and taken over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preddiff.errors import InputError
from preddiff.storage.expectations import ExpectationStore
from tests.unit.storage.small import make_store, random_block


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["reference", "change", "variance"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.5e38, -1e300])
def test_values_that_are_not_finite_are_refused_before_anything_is_written(
    tmp_path: Path, name: str, value: float
) -> None:
    store = make_store(tmp_path / "e.zarr")
    before = contents(tmp_path)
    good = random_block(store.blocks[1], items=2)
    values = getattr(good, name).copy()
    values[(1, 1) + (0,) * (values.ndim - 2)] = value
    with pytest.raises(InputError, match=r"item 'c', target 'layer:3:0': .* not finite"):
        store.write([0, 2], store.blocks[1], replace(good, **{name: values}))
    assert contents(tmp_path) == before
    store.write([0, 2], store.blocks[1], good)


def test_a_mean_that_overflows_is_refused_though_its_parts_do_not(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    good = random_block(store.blocks[0])
    large = replace(good, reference=good.reference * 0 + 2e38, change=good.change * 0 + 2e38)
    with pytest.raises(InputError, match="item 'b', target 'probability:cat': the mean"):
        store.write([1], store.blocks[0], large)


def test_the_largest_values_that_float32_holds_are_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path / "e.zarr")
    largest = float(np.finfo(np.float32).max)
    for block in store.blocks:
        good = random_block(block)
        store.write([0], block, replace(good, variance=good.variance * 0 + largest))
    assert (ExpectationStore(store.path).read(0)["variance"] == largest).all()
