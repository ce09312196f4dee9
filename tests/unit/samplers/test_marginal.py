"""Donors of the marginal sampler: all training items, or as many as memory is allowed for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.samplers import marginal
from preddiff.samplers.base import Sources
from preddiff.samplers.marginal import Marginal, MarginalSettings
from tests.unit.datasets.stores import write_store

SETTINGS = MarginalSettings(kind="marginal")
SLAB = (slice(1, 4), slice(0, 5))
TRAINING = [True, True, False, True, True, True, False, True, True, True]


@pytest.fixture
def items(tmp_path: Path) -> Items:
    values = np.random.default_rng(0).integers(0, 256, (10, 3, 6, 5), dtype=np.uint8)
    return write_store(tmp_path / "data.zarr", values, training=TRAINING, scale=1 / 255)


def test_all_training_items_are_donors_where_they_fit(items: Items) -> None:
    sources = Sources(items, SLAB, seed=7)
    found = SETTINGS.build(sources)
    numbers = np.flatnonzero(TRAINING)
    expected = np.stack([items.read_stored([n], SLAB)[0] for n in numbers])
    assert found.donors.dtype == np.uint8 and np.array_equal(found.donors, expected)
    assert found.names == [f"item-{n}" for n in numbers]
    assert found.scale == 1 / 255
    assert "seed" not in SETTINGS.provenance(sources)


def test_donors_have_what_has_windows(items: Items) -> None:
    around = (slice(0, 6), slice(0, 5))
    found = SETTINGS.build(Sources(items, SLAB, around=around))
    assert np.array_equal(found.donors, items.read_stored(np.flatnonzero(TRAINING), around))


def test_else_a_subset_that_the_seed_decides(items: Items, monkeypatch, capsys) -> None:
    # An item takes 3 x 3 x 5 bytes.
    monkeypatch.setattr(marginal, "DONOR_BYTES", 45 * 4 + 44)
    found = SETTINGS.build(Sources(items, SLAB, seed=7))
    assert "4 of 8 training items" in capsys.readouterr().err
    assert len(found.donors) == len(set(found.names)) == 4
    for name, donor in zip(found.names, found.donors, strict=True):
        number = items.number(name)
        assert TRAINING[number]
        assert np.array_equal(donor, items.read_stored([number], SLAB)[0])
    again = SETTINGS.build(Sources(items, SLAB, seed=7))
    assert again.names == found.names
    others = [SETTINGS.build(Sources(items, SLAB, seed=seed)).names for seed in range(20)]
    assert {name for names in others for name in names} == set(
        SETTINGS.build(Sources(items, (slice(0, 1), slice(0, 1)))).names
    )
    assert SETTINGS.provenance(Sources(items, SLAB, seed=7))["seed"] == 7


def test_each_item_has_another_donor_however_large_it_is(items: Items, monkeypatch) -> None:
    monkeypatch.setattr(marginal, "DONOR_BYTES", 1)
    found = SETTINGS.build(Sources(items, SLAB))
    assert [len(found.choices(name)) for name in found.names] == [1, 1]


def test_an_item_needs_another_one() -> None:
    with pytest.raises(InputError, match=r"item 'a': .* at least one other"):
        Marginal(np.zeros((1, 1, 4, 4)), ["a"]).choices("a")


MEASURE = """
import resource, sys
from pathlib import Path
from preddiff.datasets.items import Items
from preddiff.samplers.base import Sources
from preddiff.samplers.grey import GreySettings
from preddiff.samplers.marginal import MarginalSettings

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

items = Items(Path(sys.argv[2]))
settings = {"grey": GreySettings, "marginal": MarginalSettings}[sys.argv[1]](kind=sys.argv[1])
slab = tuple(slice(0, n) for n in items.space)
before = peak()
settings.build(Sources(items, slab))
print(peak() - before)
"""


@pytest.mark.parametrize(("kind", "limit"), [("marginal", 0.7e9), ("grey", 0.5e9)])
def test_memory_for_many_training_items_is_bounded(kind: str, limit: float, tmp_path: Path) -> None:
    # 1.2 GB, of which nothing is written: they are all 0.
    values = np.broadcast_to(np.uint8(0), (100, 3, 2000, 2000))
    path = tmp_path / "data.zarr"
    write_store(path, values)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < limit
