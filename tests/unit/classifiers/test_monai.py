"""Networks of MONAI: arguments that the data tell, and messages."""

import pytest
from torch import nn

from preddiff.classifiers.monai import build, complete
from preddiff.errors import InputError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DenseNet121", {"spatial_dims": 3, "in_channels": 2, "out_channels": 4}),
        ("ResNet", {"spatial_dims": 3, "n_input_channels": 2, "num_classes": 4}),
        ("EfficientNetBN", {"spatial_dims": 3, "in_channels": 2, "num_classes": 4}),
        ("SEResNet50", {"spatial_dims": 3, "in_channels": 2, "num_classes": 4}),
    ],
)
def test_the_data_tell_dimensions_channels_and_outputs(name: str, expected: dict[str, int]) -> None:
    assert complete(name, {}, 2, 4) == expected
    assert complete(name, {"spatial_dims": 2}, 2, 4) == {**expected, "spatial_dims": 2}


def test_networks_are_built_as_asked_for() -> None:
    small = {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}
    network = build("DenseNet121", complete("DenseNet121", small, 2, 5))
    convolution = next(one for one in network.modules() if isinstance(one, nn.Conv3d))
    assert (convolution.in_channels, convolution.out_channels) == (2, 4)
    linear = [one for one in network.modules() if isinstance(one, nn.Linear)]
    assert linear[-1].out_features == 5


def test_unknown_names_and_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'DenseNet201'"):
        complete("DenseNet21", {}, 1, 2)
    with pytest.raises(InputError, match=r"DenseNet121 refuses its arguments .*init_features"):
        build("DenseNet121", {"features": 3})
