"""Settings of prediction difference analysis: which estimator applies, and their provenance."""

import numpy as np
import pytest

from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.methods.prediction_difference import WindowSettings, provenance
from preddiff.samplers.conditional_settings import ConditionalSettings
from preddiff.samplers.grey import GreySettings
from preddiff.targets import Target

THREE = LinearClassifier(np.ones((3, 1, 4, 4)), np.zeros(3), ("a", "b", "c"), 9, (0, 0))
TWO = LinearClassifier(np.ones((1, 4, 4)), 0.0, ("a", "b"), 9, (0, 0))
GREY = GreySettings(kind="grey")


def targets(*texts: str) -> list[Target]:
    return [Target.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("classifier", "explained", "estimator"),
    [
        (TWO, ("probability:b", "logit:a"), "exact"),
        (THREE, ("logit:a", "logit:c"), "exact"),
        (THREE, ("logit:a", "probability:c"), "samples"),
    ],
)
def test_exact_is_the_default_where_all_targets_have_it(classifier, explained, estimator) -> None:
    found = provenance(WindowSettings(), classifier, GREY, targets(*explained), 3)
    assert found["estimator"] == estimator
    assert ("samples" in found) == ("seed" in found) == (estimator == "samples")


@pytest.mark.parametrize(
    ("sampler", "explained", "message"),
    [
        (
            GREY,
            "probability:c",
            "for probability:c, since there are more than two classes: set .* or",
        ),
        (
            ConditionalSettings(kind="conditional", clip=True),
            "probability:c",
            "for this sampler .clipped",
        ),
    ],
)
def test_exact_expectations_that_there_are_not_are_refused(sampler, explained, message) -> None:
    settings = WindowSettings(estimator="exact")
    with pytest.raises(InputError, match=message):
        settings.estimator_for(THREE, sampler, targets("logit:a", explained))


def test_held_out_items_are_part_of_the_provenance_if_asked_for() -> None:
    plain, held_out = (
        provenance(WindowSettings(held_out=chosen), TWO, GREY, targets("logit:a"), 3)
        for chosen in (False, True)
    )
    assert held_out == {**plain, "held_out": True} and "held_out" not in plain
