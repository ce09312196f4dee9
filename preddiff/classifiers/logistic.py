"""L2-penalised logistic regression of cohorts, multinomial for more than two classes."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.linear_training import LinearSettings, Penalties


@CLASSIFIERS.register
class LogisticClassifier(LinearSettings):
    """The paper's MRI classifier: an L2-penalised logistic regression, trained on a cohort."""

    penalty: ClassVar[str] = "C"

    kind: Literal["logistic"] = Field(description="logistic")
    C: Penalties = Field(
        1.0,
        description="inverse strength of the L2 penalty, or a list from which inner "
        "cross-validation chooses",
    )

    def model(self, outputs: int) -> Any:
        """Logistic regression; of more than two classes, multinomial."""
        # Importing scikit-learn takes a second.
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(tol=1e-8, max_iter=10_000)
