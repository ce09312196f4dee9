"""Memory of the engines, measured in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

# Prints by how many bytes the peak of memory grows while a block is evaluated.
MEASURE = """
import resource
import numpy as np
import torch
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.standardisation import Standardisation
from preddiff.engines.dense import Dense
from preddiff.engines.linear import Exact, Samples
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Windows

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def volumes(count):
    return np.random.default_rng(0).random((count, 1, 12, 91, 109), dtype=np.float32)

def linear():
    weights = np.random.default_rng(1).normal(size=(1, 12, 91, 109)) / 100
    return LinearClassifier(weights, 0.0, ("no", "yes"), 100, (0, 0, 0))

targets = [Target("probability", "yes")]
"""

# Draws of 730 MB.
LINEAR_SAMPLES = """
gaussian = PatchGaussian(np.zeros(343), np.eye(343) + 0.5, 7, 1, 1000, 0.0)
windows = Windows((12, 91, 109), 5)
engine = Samples(linear(), Conditional(gaussian), windows, targets, 20, 0)
x = volumes(1)
"""

# Draws of 850 MB.
DENSE = """
x = np.random.default_rng(0).random((30, 3, 40, 40), dtype=np.float32)
windows = Windows((40, 40), 36)
sampler = Marginal(x, [str(n) for n in range(30)])
standardisation = Standardisation((0.5,) * 3, (0.2,) * 3)
def nodes(batch, item):
    return batch.mean((2, 3))
engine = Dense(nodes, sampler, windows, 2200, 0, standardisation=standardisation)
x = x[:1]
"""

# Weighted sums of 610 MB, of 800 donors.
EXACT_MARGINAL = """
donors = volumes(800)
windows = Windows((12, 91, 109), 3)
sampler = Marginal(donors, [str(n) for n in range(800)])
engine = Exact(linear(), sampler, windows, targets)
x = donors[:1]
"""

RUN = """
before = peak()
found = engine.expectations(x, ["0"], windows.everything)
assert found.change.shape[2:] == windows.shape
print(peak() - before)
"""


def growth(tmp_path: Path, setting: str) -> int:
    """Bytes by which the peak of memory grows while a block is evaluated."""
    script = tmp_path / "measure.py"
    script.write_text(MEASURE + setting + RUN)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize(
    "setting",
    [LINEAR_SAMPLES, DENSE, EXACT_MARGINAL],
    ids=["linear samples", "dense", "exact marginal"],
)
def test_memory_for_a_block_is_bounded(setting: str, tmp_path: Path) -> None:
    assert growth(tmp_path, setting) < 1.2e9
