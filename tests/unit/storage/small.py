"""Small expectation stores, filled with random numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preddiff.engines.base import Expectations
from preddiff.storage.expectations import ExpectationStore, expectation_variables
from preddiff.storage.stores import create
from preddiff.windows import Block, Windows

WINDOWS = Windows((6, 7), 3)
# Windows per block: a row of the grid of 4 x 5 windows, so that an item has 4 blocks.
BLOCK = 5
TARGETS = ("probability:cat", "layer:3:0")
SETTINGS = {"k": 3, "code": "1f3a"}


def make_store(
    path: Path, items: Sequence[str] = ("a", "b", "c"), provenance: Mapping[str, Any] = SETTINGS
) -> ExpectationStore:
    """An empty store; its items' digests are made of their names."""
    create(
        path,
        expectation_variables(len(items), len(TARGETS), WINDOWS, BLOCK),
        {
            "item": ("item", np.array(list(items))),
            "target": ("target", np.array(TARGETS)),
            "item_digest": ("item", np.array([f"digest of {name}" for name in items])),
        },
        {**provenance, "items": "-".join(items)},
        {"space": list(WINDOWS.space), "k": WINDOWS.k, "stride": 1, "block": BLOCK},
    )
    return ExpectationStore(path, "r+")


def random_block(block: Block, items: int = 1, seed: int = 0) -> Expectations:
    """Results of a block, all of them finite."""
    generator = np.random.default_rng((seed, block.number))
    shape = (items, len(TARGETS), *block.shape)
    return Expectations(
        generator.normal(size=shape[:2]), generator.normal(size=shape), generator.random(shape)
    )


def fill(store: ExpectationStore, items: Sequence[int], blocks: Sequence[int] = range(4)) -> None:
    """Write blocks of some items, each item's numbers being those of its name."""
    for item in items:
        seed = int.from_bytes(store.items[item].encode())
        reference = random_block(store.blocks[0], seed=seed).reference
        for number in blocks:
            found = random_block(store.blocks[number], seed=seed)
            found = Expectations(reference, found.change, found.variance)
            store.write([item], store.blocks[number], found)
