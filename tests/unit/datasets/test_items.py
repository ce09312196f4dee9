"""Items read back from data stores: whole, cut to a slab, scaled, by name, and their mean."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from tests.unit.datasets.stores import write_store

AFFINE = np.diag([-2.0, 2, 2, 1])
SLAB = (slice(1, 3), slice(0, 4), slice(2, 5))


@pytest.fixture(scope="module")
def volumes() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 3, 4, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 3, 7, 9), dtype=np.uint8)


def test_volumes_are_read_with_one_channel(tmp_path: Path, volumes: np.ndarray) -> None:
    items = write_store(tmp_path / "v.zarr", volumes, affine=AFFINE)
    assert items.are_volumes and items.channels == 1 and items.space == (3, 4, 5)
    assert np.array_equal(items.affine, AFFINE)
    found = items.read([3, 0])
    assert found.dtype == np.float32 and np.array_equal(found, volumes[[3, 0], None])
    assert np.array_equal(items.read(np.array([2]), SLAB), volumes[[2], None, 1:3, :, 2:5])


def test_images_are_scaled(tmp_path: Path, images: np.ndarray) -> None:
    items = write_store(tmp_path / "i.zarr", images, scale=1 / 255)
    assert not items.are_volumes and items.channels == 3 and items.space == (7, 9)
    found = items.read([5, 1])
    assert found.dtype == np.float32
    assert found == pytest.approx(images[[5, 1]] / 255, rel=1e-6)
    assert items.read([1], (slice(2, 4), slice(0, 9))) == pytest.approx(images[[1], :, 2:4] / 255)
    stored = items.read_stored([5, 1])
    assert stored.dtype == np.uint8 and np.array_equal(stored, images[[5, 1]])
    with pytest.raises(InputError, match=r"i\.zarr contains images"):
        _ = items.affine


def test_columns(tmp_path: Path, images: np.ndarray) -> None:
    items = write_store(
        tmp_path / "i.zarr",
        images,
        classes=("cat", "dog"),
        numbers=[1, 0, -1, 1, 0, 0],
        training=[True, False, True, False, False, True],
    )
    assert items.groups == ["dog", "cat", "", "dog", "cat", "cat"]
    assert items.classes == ("cat", "dog") and list(items.class_numbers) == [1, 0, -1, 1, 0, 0]
    assert list(np.flatnonzero(items.training)) == [0, 2, 5]
    assert items.digests[3] == "digest-3" and items.scale == 1


def test_truth_is_cut_to_the_slab(tmp_path: Path, volumes: np.ndarray) -> None:
    truth = (volumes > 0.5).astype(np.uint8)
    items = write_store(tmp_path / "v.zarr", volumes, affine=AFFINE, truth=truth)
    found = items.truth(2, SLAB)
    assert found is not None and found.dtype == bool
    assert np.array_equal(found, volumes[2, 1:3, :, 2:5] > 0.5)
    assert write_store(tmp_path / "w.zarr", volumes, affine=AFFINE).truth(2, SLAB) is None


def test_items_are_found_by_name(tmp_path: Path, images: np.ndarray) -> None:
    items = write_store(tmp_path / "i.zarr", images)
    assert [items.number(name) for name in items.names] == list(range(6))
    with pytest.raises(InputError, match=r"i\.zarr has no item 'item-6'"):
        items.number("item-6")


class Unsearchable(list):
    """A list that refuses to be searched from its beginning, which takes long for every item."""

    def index(self, *_):
        raise AssertionError("searched item by item")

    def __contains__(self, _):
        raise AssertionError("searched item by item")


def test_finding_items_does_not_search_all_of_them(tmp_path: Path) -> None:
    write_store(tmp_path / "i.zarr", np.zeros((50_000, 1, 1, 1), dtype=np.uint8))
    items = Items(tmp_path / "i.zarr")
    items.names = Unsearchable(items.names)
    found = [items.number(name) for name in reversed(list(items.names))]
    assert found == list(range(49_999, -1, -1))


@given(st.sampled_from([1, 2, 5]), st.booleans(), st.integers(0, 99))
def test_training_mean_is_that_of_all_values_at_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, are_volumes: bool, seed: int
) -> None:
    # To the last bit, since grey windows were always filled with it, for items of any size.
    generator = np.random.default_rng(seed)
    training = generator.permutation([True] * count + [False])
    shape = tuple(generator.integers(1, 30, size=3))
    path = tmp_path_factory.mktemp("items") / "i.zarr"
    if are_volumes:
        values = generator.normal(1, 3, (count + 1, *shape)).astype(np.float32)
        items = write_store(path, values, affine=AFFINE, training=training)
        slab = (slice(0, (shape[0] + 1) // 2), slice(0, shape[1]), slice(0, shape[2]))
        expected = float(values[training][:, slab[0]].mean(dtype=np.float64))
        assert items.training_mean(slab) == expected
        expected = float(values[training].mean(dtype=np.float64))
    else:
        values = generator.integers(0, 256, (count + 1, *shape), dtype=np.uint8)
        items = write_store(path, values, scale=1 / 255, training=training)
        expected = float(values[training].mean(dtype=np.float64)) * (1 / 255)
    assert items.training_mean() == expected


def test_training_mean_reads_one_item_at_a_time(tmp_path: Path, volumes: np.ndarray) -> None:
    items = write_store(tmp_path / "v.zarr", volumes, affine=AFFINE)
    read, asked = items.read_stored, []
    items.read_stored = lambda numbers, slab=None: asked.append(list(numbers)) or read(numbers)
    items.training_mean()
    assert asked == [[0], [1], [2], [3], [4]]
