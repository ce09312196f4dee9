"""The digits: real images, divided into training and test items by the seed alone."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from preddiff.datasets.digits import LEVELS, read_digits


def test_images_are_those_of_scikit_learn() -> None:
    images, labels, _ = read_digits(0.25, 0)
    known = load_digits()
    assert images.dtype == np.uint8 and images.shape == (1797, 1, 8, 8)
    assert np.array_equal(images[:, 0], known.images) and images.max() == LEVELS
    assert np.array_equal(labels, known.target)


@pytest.mark.parametrize("test", [0.1, 0.25, 0.5])
def test_every_digit_has_its_share_of_test_items(test: float) -> None:
    _, labels, training = read_digits(test, 3)
    assert training.sum() == len(labels) - np.ceil(test * len(labels))
    for digit in range(10):
        of_digit = labels == digit
        # Whole items cannot be divided.
        assert abs((~training[of_digit]).sum() - test * of_digit.sum()) <= 1


def test_the_seed_alone_divides() -> None:
    first, again, other = (read_digits(0.25, seed)[2] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
