"""The slab: cutting it out of volumes, and putting it back on their grid."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.classifiers.networks import VolumeNetworkSettings
from preddiff.datasets.items import Items
from preddiff.datasets.slab import Slab, on_grid, save_volume, slab_of
from preddiff.errors import InputError
from preddiff.settings.base import validate
from tests.unit.datasets.stores import write_store

SPACE = (4, 5, 6)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -20], [0, 0, 2, -10], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    values = np.random.default_rng(0).normal(size=(2, *SPACE)).astype(np.float32)
    return write_store(tmp_path_factory.mktemp("slab") / "data.zarr", values, affine=AFFINE)


@given(axis=st.integers(0, 2), data=st.data())
def test_a_slab_put_back_is_the_volume_inside_and_0_outside(
    items: Items, axis: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, SPACE[axis] - 1))
    last = data.draw(st.integers(first, SPACE[axis] - 1))
    slab = slab_of(items, Slab(axis=axis, slices=(first, last)))
    whole = items.read([1])[0, 0]
    back = on_grid(items.read([1], slab)[0, 0], slab, items)
    assert back.dtype == np.float32 and back.shape == SPACE
    inside = (np.indices(SPACE)[axis] >= first) & (np.indices(SPACE)[axis] <= last)
    assert np.array_equal(back, np.where(inside, whole, 0))


@pytest.mark.parametrize(("axis", "length"), list(enumerate(SPACE)))
def test_slices_beyond_the_volumes_are_refused(items: Items, axis: int, length: int) -> None:
    message = (
        rf"slices 1 to {length} of axis {axis} .*data\.zarr.* {length} slices .* {length - 1}\)"
    )
    with pytest.raises(InputError, match=message):
        slab_of(items, Slab(axis=axis, slices=(1, length)))


@pytest.mark.parametrize("kind", [Slab, VolumeNetworkSettings])
def test_an_axis_of_the_whole_volume_is_refused(kind: type[Slab]) -> None:
    with pytest.raises(InputError, match="axis is for slices, but the whole volume is used"):
        validate(kind, {"axis": 1, "slices": None}, "settings")
    assert validate(kind, {"axis": 0, "slices": None}, "settings").slices is None


def test_volumes_are_written_with_their_place(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=SPACE).astype(np.float32)
    save_volume(values, AFFINE, tmp_path / "new/a.nii.gz")
    image = nib.load(tmp_path / "new/a.nii.gz")
    assert np.array_equal(image.get_fdata(dtype=np.float32), values)
    assert np.array_equal(image.affine, AFFINE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.nii.gz"]
