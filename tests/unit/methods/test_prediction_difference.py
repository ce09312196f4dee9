"""Settings of prediction difference analysis: which estimator applies, and their provenance."""

import numpy as np
import pytest
from torch import nn

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.methods.prediction_difference import WindowSettings, provenance
from preddiff.samplers.conditional_settings import ConditionalSettings
from preddiff.samplers.grey import GreySettings
from preddiff.targets import Target
from preddiff.windows import Windows

THREE = LinearClassifier(np.ones((3, 1, 4, 4)), np.zeros(3), ("a", "b", "c"), 9, (0, 0))
TWO = LinearClassifier(np.ones((1, 4, 4)), 0.0, ("a", "b"), 9, (0, 0))
NETWORK = Network(
    nn.Flatten(), {}, ("a", "b"), 9, (4, 4), Standardisation((0.0,), (1.0,)), first_voxel=(1, 0)
)
GREY = GreySettings(kind="grey")
WINDOWS = Windows((4, 4), 3)


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
    found = provenance(WindowSettings(), classifier, GREY, targets(*explained), WINDOWS, 3)
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
        provenance(WindowSettings(held_out=chosen), TWO, GREY, targets("logit:a"), WINDOWS, 3)
        for chosen in (False, True)
    )
    assert held_out == {**plain, "held_out": True} and "held_out" not in plain


@pytest.mark.parametrize("more", [{}, {"accuracy": 0.05}])
def test_windows_that_overlap_a_slab_are_part_of_the_provenance(more) -> None:
    seen = (slice(1, 3), slice(0, 4))
    inside, overlapping = Windows((4, 4), 2, 1, seen), Windows.overlapping((4, 4), 2, 1, seen)
    settings = WindowSettings(k=2, **more)
    classifier = NETWORK if more else TWO
    former, new = (
        provenance(settings, classifier, GREY, targets("logit:a"), windows, 3)
        for windows in (inside, overlapping)
    )
    assert new == {**former, "beyond_slab": True} and "beyond_slab" not in former


def test_windows_lie_inside_the_slab_where_nothing_else_is_known() -> None:
    item, own = (
        ConditionalSettings(kind="conditional", surroundings=text) for text in ("item", "input")
    )
    assert WindowSettings().goes_beyond_slab(GREY) and WindowSettings().goes_beyond_slab(item)
    assert not WindowSettings().goes_beyond_slab(own)
    assert not WindowSettings(beyond_slab=False).goes_beyond_slab(item)
    with pytest.raises(InputError, match=r"beyond_slab: .* remove beyond_slab, or"):
        WindowSettings(beyond_slab=True).goes_beyond_slab(own)


@pytest.mark.parametrize(
    ("settings", "block"),
    [({}, 131_072), ({"l": 8}, 131_072), ({"l": 16}, 2**14), ({"l": 999}, 1), ({"block": 7}, 7)],
)
def test_blocks_of_linear_classifiers_fit_into_memory(settings, block) -> None:
    volumes = LinearClassifier(np.ones((1, 4, 4, 4)), 0.0, ("a", "b"), 9, (0, 0, 0))
    assert WindowSettings(**settings).block_for(volumes) == block
    assert WindowSettings().block_for(NETWORK) == 1024
