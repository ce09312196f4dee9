"""Networks from Python files of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from preddiff import user_code
from preddiff.classifiers.base import CLASSIFIERS
from preddiff.classifiers.networks import (
    NetworkSettings,
    VolumeNetworkClassifier,
    VolumeNetworkSettings,
)
from preddiff.datasets.base import DatasetSettings, Geometry
from preddiff.errors import InputError
from preddiff.settings.base import Name, Positive, Settings

# Keys that networks of images need, and networks of volumes can have or cannot.
_OF_IMAGES = ("crop", "mean", "std")
_OF_IMAGES_ONLY = ("resize", "crop")


class ModuleSettings(VolumeNetworkSettings, NetworkSettings):
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
    classes: Path | None = Field(
        None,
        description="names of the classes, or of an image's values: a text file with one name per "
        "line, or a table (class_index, class_name); default: of volumes, those of the dataset; of "
        "images, numbers",
    )
    resize: Positive | None = Field(
        None,
        description="of images: length of the shorter side after resizing, in pixels; default: "
        "they are not resized",
    )
    crop: Positive | None = Field(
        None,
        description="of images: side of the central square that is cropped, in pixels; required",
    )

    def problem_of_images(self) -> str | None:
        """Say which key is missing, or superfluous, if its inputs are images."""
        for key in _OF_IMAGES:
            if getattr(self, key) is None:
                return f"{key} is required for your own network of images"
        if self.slices is not None:
            return "slices are of volumes: name their dataset, or remove slices"
        return None

    def problem_of_volumes(self) -> str | None:
        """Say which key is superfluous if its inputs are volumes."""
        for key in _OF_IMAGES_ONLY:
            if getattr(self, key) is not None:
                return f"{key} is for images: remove it, or the dataset of volumes"
        if self.classes is not None and self.outputs == "value":
            return "classes: the value of volumes has the name of the dataset's column: remove it"
        return None


@CLASSIFIERS.register
class ModuleClassifier(VolumeNetworkClassifier, ModuleSettings):
    """Your own network of images or of a cohort's volumes, from a Python file."""

    command: ClassVar[str] = "module"
    is_light: ClassVar[bool] = True

    kind: Literal["module"] = Field(description="module")
    dataset: Name | None = Field(
        None,
        description="name of the cohort whose volumes it was trained on; default: it is a network "
        "of images",
    )

    @model_validator(mode="after")
    def _complete(self) -> "ModuleClassifier":
        of_images = self.dataset is None
        problem = self.problem_of_images() if of_images else self.problem_of_volumes()
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def dimensions(self) -> int:
        """Two spatial axes, unless its inputs are volumes."""
        return 2 if self.dataset is None else 3

    @property
    def channels(self) -> int | None:
        """As many channels as there are means."""
        return None if self.mean is None else len(self.mean)

    @property
    def training_dataset(self) -> str | None:
        """The cohort."""
        return self.dataset

    def problem_with(self, dataset: DatasetSettings) -> str | None:
        """Say what the dataset has no column for, unless a file names the classes."""
        named = self.classes is not None and self.outputs == "classes"
        return None if named else super().problem_with(dataset)

    @property
    def geometry(self) -> Geometry | None:
        """Size of images."""
        return self.part(Geometry) if self.dataset is None else None

    @property
    def stage_settings(self) -> Settings:
        """Python file, weights and preprocessing."""
        return self.part(ModuleSettings)

    def input_files(self) -> list[Path]:
        """List the Python file and the modules that it imports, state dict and names of classes."""
        given = [path for path in (self.weights, self.classes) if path is not None]
        return [*user_code.files_of(self.module), *given]

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
