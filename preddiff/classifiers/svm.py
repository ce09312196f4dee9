"""Linear support vector machines of cohorts."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.linear_training import DecisionSettings, Penalties


@CLASSIFIERS.register
class SupportVectorClassifier(DecisionSettings):
    """A linear support vector machine, trained on a cohort: its decision values are explained."""

    penalty: ClassVar[str] = "C"

    kind: Literal["svm"] = Field(description="svm")
    C: Penalties = Field(
        1.0,
        description="inverse strength of the L2 penalty, or a list from which inner "
        "cross-validation chooses",
    )

    def model(self, outputs: int) -> Any:
        """Support vector machine; of more than two classes, each against the rest.

        With the hinge loss and an intercept without penalty. `LinearSVC` penalises its intercept
        like a weight, which keeps it near 0 where volumes have many voxels and weights are small.
        """
        # Importing scikit-learn takes a second.
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import SVC

        model = SVC(kernel="linear", tol=1e-6)
        return model if outputs == 1 else OneVsRestClassifier(model)
