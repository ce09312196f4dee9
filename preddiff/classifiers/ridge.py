"""Ridge classification of cohorts: least squares with an L2 penalty, on classes coded as -1, 1."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.linear_training import DecisionSettings, Penalties


@CLASSIFIERS.register
class RidgeClassifier(DecisionSettings):
    """A ridge classifier, trained on a cohort: its decision values are explained."""

    penalty: ClassVar[str] = "alpha"

    kind: Literal["ridge"] = Field(description="ridge")
    alpha: Penalties = Field(
        1.0,
        description="strength of the L2 penalty, or a list from which inner cross-validation "
        "chooses",
    )

    def model(self, outputs: int) -> Any:
        """Ridge classifier; of more than two classes, each against the rest."""
        # Importing scikit-learn takes a second.
        from sklearn.linear_model import RidgeClassifier as Model

        return Model(solver="svd")
