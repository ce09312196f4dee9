"""The handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 pixels."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

# Pixels are integers from 0 to this value.
LEVELS = 16


def read_digits(
    test: float, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Read the digits and divide them into training and test images, stratified by digit.

    Parameters
    ----------
    test : float
        Share of test images.
    seed : int
        Seed of the division.

    Returns
    -------
    images : uint8 array (1797, 1, 8, 8)
        From 0 to `LEVELS`.
    labels : int64 array (1797,)
    training : bool array (1797,)
    """
    images, labels = load_digits(return_X_y=True)
    chosen, _ = train_test_split(
        np.arange(len(labels)), test_size=test, stratify=labels, random_state=seed
    )
    training = np.zeros(len(labels), dtype=bool)
    training[chosen] = True
    return images.reshape(-1, 1, 8, 8).astype(np.uint8), labels.astype(np.int64), training
