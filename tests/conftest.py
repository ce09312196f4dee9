"""Data that several tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from preddiff.samplers.gaussian import PatchGaussian

# Tests run side by side: how long an example takes says nothing.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def smooth(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random arrays whose neighbouring values are correlated, like those of real images."""
    values = generator.normal(size=shape)
    for axis in range(2, len(shape)):
        values = values + np.roll(values, 1, axis) + np.roll(values, 2, axis)
    return values.astype(np.float32)


def fitted(items: np.ndarray, l: int, patches: int = 3000) -> PatchGaussian:
    return PatchGaussian.fit(items, l, patches=patches, seed=3)


@pytest.fixture(scope="session")
def real_cohort() -> Path:
    """Folder of real brains: participants.tsv with the columns participant_id, group, gm."""
    folder = os.environ.get("PREDDIFF_TEST_COHORT")
    if not folder:
        pytest.skip("PREDDIFF_TEST_COHORT does not name a folder with a real cohort")
    return Path(folder)
