"""The handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 pixels."""

import math
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preddiff.datasets.base import DATASETS, DatasetSettings
from preddiff.settings.base import Settings

# Pixels are integers from 0 to this value.
LEVELS = 16
_COUNT = 1797


class DigitSettings(Settings):
    """How the digits are divided into training and test images (`preddiff prepare-digits`)."""

    test: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25,
        description="share of the images that is kept for testing; by default, these are explained",
    )


@DATASETS.register
class Digits(DatasetSettings):
    """The 1,797 handwritten digits that come with scikit-learn."""

    source: ClassVar[str] = "digits"
    command: ClassVar[str] = "prepare-digits"
    dimensions: ClassVar[int] = 2
    space: ClassVar[tuple[int, ...] | None] = (8, 8)

    digits: DigitSettings = Field(
        description="division into training and test images; {} for the defaults"
    )

    @property
    def channels(self) -> int:
        """One channel, the grey value."""
        return 1

    @property
    def preparation(self) -> Settings:
        """How the digits are divided."""
        return self.digits

    def number_of_items(self) -> int:
        """Images for testing."""
        return math.ceil(_COUNT * self.digits.test)


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
    # scikit-learn is imported where it is needed, since that takes a second.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    chosen, _ = train_test_split(
        np.arange(len(labels)), test_size=test, stratify=labels, random_state=seed
    )
    training = np.zeros(len(labels), dtype=bool)
    training[chosen] = True
    return images.reshape(-1, 1, 8, 8).astype(np.uint8), labels.astype(np.int64), training
