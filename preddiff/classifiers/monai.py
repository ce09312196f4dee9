"""Networks of volumes from MONAI, by name and arguments, with your state dict."""

import inspect
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue
from torch import nn

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.networks import VolumeNetworkClassifier, VolumeNetworkSettings
from preddiff.errors import InputError
from preddiff.settings.base import Arguments, Name, Settings, unknown

# Names of the arguments of MONAI's networks for what the data tell.
_DIMENSIONS = ("spatial_dims",)
_CHANNELS = ("in_channels", "n_input_channels")
_OUTPUTS = ("out_channels", "num_classes")


class MonaiSettings(VolumeNetworkSettings):
    """A network of MONAI, with your weights (`preddiff monai`)."""

    network: str = Field(
        description="name of the network in monai.networks.nets, such as DenseNet121, ResNet, "
        "EfficientNetBN or SEResNet50"
    )
    arguments: Arguments = Field(
        {},
        description="its arguments; default: three dimensions, and as many channels and classes as "
        "the data have",
    )
    weights: Path = Field(description="state dict of the network (.pth, .safetensors)")


@CLASSIFIERS.register
class MonaiClassifier(VolumeNetworkClassifier, MonaiSettings):
    """A network of MONAI, by its name and arguments, with your weights."""

    command: ClassVar[str] = "monai"
    is_light: ClassVar[bool] = True

    kind: Literal["monai"] = Field(description="monai")
    dataset: Name = Field(description="name of the cohort that it was trained on")

    @property
    def dimensions(self) -> int:
        """Three spatial axes."""
        return 3

    @property
    def channels(self) -> int | None:
        """As many channels as there are means, if they are given."""
        return None if self.mean is None else len(self.mean)

    @property
    def training_dataset(self) -> str:
        """The cohort."""
        return self.dataset

    @property
    def stage_settings(self) -> Settings:
        """Name, arguments, weights and preprocessing."""
        return self.part(MonaiSettings)

    def input_files(self) -> list[Path]:
        """List the state dict."""
        return [self.weights]

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Build the network from its name and arguments, by the version of MONAI that made it."""
        network = build(architecture["monai"], architecture["arguments"])
        if architecture["version"] != metadata.version("monai"):
            raise InputError(
                f"{folder}: stored with MONAI {architecture['version']}, but "
                f"{metadata.version('monai')} is installed, whose networks may compute other "
                "numbers: run the stage monai again (snakemake --forcerun monai), or install the "
                "former"
            )
        return network


def description(name: str, arguments: Mapping[str, JsonValue]) -> dict[str, object]:
    """Describe a network, with the version of MONAI, for `rebuild`."""
    return {"monai": name, "arguments": arguments, "version": metadata.version("monai")}


def complete(
    name: str, arguments: Mapping[str, JsonValue], channels: int, outputs: int
) -> dict[str, JsonValue]:
    """Add what the data tell to the arguments of a network, if it takes them.

    Parameters
    ----------
    name : str
        Name of the network in monai.networks.nets.
    arguments : mapping
        Arguments that are given, which have precedence.
    channels, outputs : int
        Channels of the volumes, and number of outputs.

    Raises
    ------
    InputError
        If MONAI is not installed, or has no such network.
    """
    network = _network(name)
    parameters = _parameters(network)
    told = dict(arguments)
    for names, value in ((_DIMENSIONS, 3), (_CHANNELS, channels), (_OUTPUTS, outputs)):
        for key in names:
            if key in parameters and key not in told:
                told[key] = value
    return told


def build(name: str, arguments: Mapping[str, JsonValue]) -> nn.Module:
    """Build a network of MONAI.

    Parameters
    ----------
    name : str
        Name of the network in monai.networks.nets.
    arguments : mapping

    Raises
    ------
    InputError
        If MONAI is not installed, or has no such network, or the network refuses the arguments.
    """
    network = _network(name)
    try:
        found: nn.Module = network(**arguments)
    except Exception as error:
        # MONAI's networks check their arguments in many ways.
        raise InputError(
            f"monai.networks.nets.{name} refuses its arguments ({error}): give it others; it takes "
            f"{', '.join(_parameters(network))}"
        ) from error
    return found


def _parameters(network: type[nn.Module]) -> list[str]:
    """Names of the arguments of a network, including those it hands on to its base class."""
    found: dict[str, None] = {}
    for one in network.__mro__:
        parameters = inspect.signature(one).parameters.values()
        found |= dict.fromkeys(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(found)


def _network(name: str) -> type[nn.Module]:
    try:
        from monai.networks import nets
    except ImportError:
        raise InputError(
            "MONAI is not installed, which networks of kind monai come from: pip install "
            "'preddiff[monai]'"
        ) from None
    known = {
        key: one
        for key, one in vars(nets).items()
        if isinstance(one, type) and issubclass(one, nn.Module)
    }
    if name not in known:
        raise InputError(unknown(name, sorted(known), "network of MONAI"))
    return known[name]
