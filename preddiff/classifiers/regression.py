"""Ridge regression of a number of each subject, such as age, on the voxels of its volume."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.linear_training import LinearSettings, Penalties


@CLASSIFIERS.register
class LinearRegression(LinearSettings):
    """A ridge regression of the dataset's `value` column: its prediction is explained."""

    penalty: ClassVar[str] = "alpha"
    predicts_values: ClassVar[bool] = True

    kind: Literal["regression"] = Field(description="regression")
    alpha: Penalties = Field(
        1.0,
        description="strength of the L2 penalty, or a list from which inner cross-validation "
        "chooses",
    )

    @property
    def has_probabilities(self) -> bool:
        """Its output is a number, in the unit of the column."""
        return False

    def model(self, outputs: int) -> Any:
        """Ridge regression."""
        # Importing scikit-learn takes a second.
        from sklearn.linear_model import Ridge

        return Ridge(solver="svd")
