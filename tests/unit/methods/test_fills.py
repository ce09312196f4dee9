"""Inputs without information: zero, means of channels, and blur."""

import numpy as np
import pytest
import torch

from preddiff.methods.fills import filled

X = torch.randn((2, 40, 60), generator=torch.Generator().manual_seed(1)) + 3


def test_zero_and_mean() -> None:
    assert torch.equal(filled(X, "zero"), torch.zeros((2, 40, 60)))
    found = filled(X, "mean")
    for channel in range(2):
        assert np.allclose(found[channel], X[channel].numpy().mean(), rtol=1e-6)


def test_blur_is_gaussian_in_each_channel() -> None:
    impulse = torch.zeros((2, 40, 60))
    impulse[1, 20, 30] = 1
    found = filled(impulse, "blur")
    assert not found[0].any()
    distance = (torch.arange(40)[:, None] - 20) ** 2 + (torch.arange(60) - 30) ** 2
    expected = torch.exp(-distance / 8) / (8 * np.pi)
    assert found[1].numpy() == pytest.approx(expected.numpy(), abs=2e-4)


def test_blur_of_a_volume_keeps_its_mean() -> None:
    x = torch.randn((1, 20, 22, 24), dtype=torch.float64)
    found = filled(x, "blur")
    assert found.dtype == x.dtype and found.std() < 0.5 * x.std()
    assert float(found.mean()) == pytest.approx(float(x.mean()), abs=0.02)
