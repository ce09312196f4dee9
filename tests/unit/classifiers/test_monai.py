"""Networks of MONAI: arguments that the data tell, and messages."""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from preddiff.classifiers.monai import MonaiSettings, build, complete
from preddiff.classifiers.network import Network
from preddiff.errors import InputError
from preddiff.stages.monai import store_monai
from tests.unit.datasets.stores import write_store

SMALL = {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}


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
    network = build("DenseNet121", complete("DenseNet121", SMALL, 2, 5))
    convolution = next(one for one in network.modules() if isinstance(one, nn.Conv3d))
    assert (convolution.in_channels, convolution.out_channels) == (2, 4)
    linear = [one for one in network.modules() if isinstance(one, nn.Linear)]
    assert linear[-1].out_features == 5


def test_unknown_names_and_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'DenseNet201'"):
        complete("DenseNet21", {}, 1, 2)
    with pytest.raises(InputError, match=r"DenseNet121 refuses its arguments .*init_features"):
        build("DenseNet121", {"features": 3})


def test_another_version_of_monai_is_noticed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)
    write_store(
        tmp_path / "data.zarr", values, affine=np.eye(4), classes=("a", "b"), numbers=[0, 1, 0, 1]
    )
    weights, out = tmp_path / "own.pth", tmp_path / "network"
    network = build("DenseNet121", complete("DenseNet121", SMALL, 1, 2)).eval()
    torch.save(network.state_dict(), weights)
    settings = MonaiSettings(network="DenseNet121", arguments=SMALL, weights=weights)
    store_monai(tmp_path / "data.zarr", settings, out)
    x = torch.from_numpy(values[:, None])
    with torch.inference_mode():
        expected = network((x - values.mean()) / values.std())
        assert torch.allclose(Network.load(out).logits(x), expected, atol=1e-5)
    about = json.loads((out / "classifier.json").read_text())
    installed = importlib.metadata.version("monai")
    assert about["architecture"]["version"] == installed
    about["architecture"]["version"] = "1.0.0"
    (out / "classifier.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=f"with MONAI 1.0.0, but {installed} is installed"):
        Network.load(out)
