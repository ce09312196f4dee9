"""Networks from Python files of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from preddiff import user_code
from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.networks import ImageNetworkSettings, NetworkSettings
from preddiff.errors import InputError
from preddiff.settings.base import Settings


class ModuleSettings(NetworkSettings):
    """Your own network, from a Python file (`preddiff module`)."""

    module: user_code.Reference = Field(
        description="path/to/file.py:function, a function without arguments that returns a "
        "torch.nn.Module"
    )
    weights: Path | None = Field(
        None,
        description="state dict of the network (.pth, .safetensors); default: "
        "those that the function sets",
    )

    @model_validator(mode="after")
    def _complete(self) -> "ModuleSettings":
        for key in ("crop", "mean", "std"):
            if getattr(self, key) is None:
                raise ValueError(f"{key} is required for your own network")
        return self


@CLASSIFIERS.register
class ModuleClassifier(ImageNetworkSettings, ModuleSettings):
    """Your own network, from a Python file."""

    command: ClassVar[str] = "module"

    kind: Literal["module"] = Field(description="module")

    @property
    def channels(self) -> int:
        """As many channels as there are means."""
        assert self.mean is not None
        return len(self.mean)

    @property
    def stage_settings(self) -> Settings:
        """Python file, weights and preprocessing."""
        return self.part(ModuleSettings)

    def input_files(self) -> list[Path]:
        """List the Python file and the modules that it imports, state dict and names of classes."""
        weights = [self.weights] if self.weights else []
        return [*user_code.files_of(self.module), *weights, *super().input_files()]

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> nn.Module:
        """Call the function again, if its file and the modules that it imports are unchanged."""
        file = folder / architecture["module"]
        if not file.is_file():
            raise InputError(f"{file}: the Python file of the network is missing")
        reference = f"{file}:{architecture['factory']}"
        if user_code.digest_of(reference) != architecture["digest"]:
            raise InputError(
                f"{file}, or a module that it imports, changed since the classifier was stored: "
                "run the stage module again"
            )
        return build(reference)


def build(reference: str) -> nn.Module:
    """Build a network by a function of the user.

    Parameters
    ----------
    reference : str
        `path/to/file.py:function`.

    Raises
    ------
    InputError
        If the file or the function is missing or fails, or it returns anything but an nn.Module.
    """
    factory = user_code.load(reference)
    with user_code.errors_of(reference):
        network = factory()
    if not isinstance(network, nn.Module):
        raise InputError(f"{reference} returned a {type(network).__name__}, not a torch.nn.Module")
    return network
