"""Networks of torchvision: their architectures, weights and preprocessing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.networks import ImageNetworkSettings, NetworkSettings
from preddiff.datasets.base import Geometry
from preddiff.errors import InputError
from preddiff.settings.base import Settings

# Importing torchvision takes seconds, so functions that need it import it.
if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

# Auxiliary classifiers are used in training only; networks are built without them.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": False, "transform_input": False}
_OPTIONS = {"googlenet": _WITHOUT_AUXILIARY, "inception_v3": _WITHOUT_AUXILIARY}
# Their pretrained weights expect inputs between -1 and 1; torchvision scales them in the network.
_HALF = (0.5, 0.5, 0.5)
# Names in old checkpoints of DenseNets, which torchvision's own loader renames.
_OLD_DENSE = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


class TorchvisionSettings(NetworkSettings):
    """A network of torchvision (`preddiff torchvision`)."""

    name: str = Field(
        description="torchvision's name of the network: alexnet, googlenet, vgg16, ..."
    )
    weights: str = Field(
        "DEFAULT",
        description="torchvision's name of the weights (downloaded on first use), or the path of a "
        "state dict (.pth, .safetensors)",
    )

    @property
    def weights_file(self) -> Path | None:
        """The user's state dict; None for torchvision's weights."""
        path = Path(self.weights)
        return path if path.suffix else None

    @property
    def preset(self) -> "Defaults":
        """Preprocessing and classes of torchvision's weights, also assumed for a user's weights."""
        return defaults(self.name, "DEFAULT" if self.weights_file else self.weights)


@CLASSIFIERS.register
class TorchvisionClassifier(ImageNetworkSettings, TorchvisionSettings):
    """A network of torchvision, with torchvision's weights or your own."""

    command: ClassVar[str] = "torchvision"

    kind: Literal["torchvision"] = Field(description="torchvision")

    @property
    def channels(self) -> int:
        """Three channels: red, green and blue."""
        return 3

    @property
    def stage_settings(self) -> Settings:
        """Name, weights and preprocessing."""
        return self.part(TorchvisionSettings)

    @property
    def geometry(self) -> Geometry:
        """Size of the images, as set or as for the pretrained weights."""
        if None not in (self.resize, self.crop):
            return self.part(Geometry)
        preset = self.preset
        return Geometry(resize=self.resize or preset.resize, crop=self.crop or preset.crop)

    @property
    def weights_to_fetch(self) -> tuple[str, str] | None:
        """Network and weights, by torchvision's names."""
        return None if self.weights_file else (self.name, self.weights)

    def input_files(self) -> list[Path]:
        """List the state dict and the file with the names of the classes."""
        return [*([self.weights_file] if self.weights_file else []), *super().input_files()]

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Build the network from its name."""
        return build(architecture["torchvision"], classes)


@dataclass(frozen=True)
class Defaults:
    """Preprocessing and classes of pretrained weights.

    Attributes
    ----------
    resize, crop : int
    mean, std : tuple of float
    classes : tuple of str
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]


def build(name: str, classes: int) -> nn.Module:
    """Build a classification network without weights.

    Raises
    ------
    InputError
        If torchvision has no classification network of that name.
    """
    from torchvision import models

    _require_classifier(name)
    network: nn.Module = models.get_model(
        name, weights=None, num_classes=classes, **_OPTIONS.get(name, {})
    )
    return network


def names() -> list[str]:
    """List the names of torchvision's classification networks."""
    from torchvision import models

    return models.list_models(module=models)


def _require_classifier(name: str) -> None:
    if name not in names():
        raise InputError(f"torchvision has no network '{name}'; it has {', '.join(names())}")


def _weights(name: str, weights: str) -> "WeightsEnum":
    from torchvision import models

    _require_classifier(name)
    known = models.get_model_weights(name)
    if weights not in known.__members__:
        raise InputError(
            f"torchvision has no weights '{weights}' of {name}, and there is no such file; "
            f"it has {', '.join(known.__members__)}"
        )
    found: WeightsEnum = known[weights]
    return found


def defaults(name: str, weights: str = "DEFAULT") -> Defaults:
    """Return the preprocessing and the classes of torchvision's weights of a network.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    found = _weights(name, weights)
    preset = found.transforms()
    half = name in _OPTIONS
    return Defaults(
        int(preset.resize_size[0]),
        int(preset.crop_size[0]),
        _HALF if half else tuple(preset.mean),
        _HALF if half else tuple(preset.std),
        tuple(found.meta["categories"]),
    )


def download(name: str, weights: str) -> dict[str, Tensor]:
    """Download the state dict of torchvision's weights, or read it from torchvision's cache.

    Raises
    ------
    InputError
        If there are no such weights, or they cannot be downloaded.
    """
    found = _weights(name, weights)
    try:
        state = found.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{found.url} cannot be downloaded ({error}): run this on a machine with internet "
            f"access, or put the file into {torch.hub.get_dir()}/checkpoints"
        ) from None
    return dict(state)


def translate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a checkpoint as in the networks that `build` returns."""
    return {
        _OLD_DENSE.sub(r"\1\2", name): values
        for name, values in weights.items()
        if not name.startswith(_AUXILIARY)
    }
