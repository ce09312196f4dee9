"""Settings that networks of images have in common: preprocessing, classes, training size."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from preddiff.classifiers.base import ClassifierSettings
from preddiff.datasets.base import Geometry
from preddiff.settings.base import Positive


class Preprocessing(Geometry):
    """How pixels, from 0 to 1, become a network's inputs."""

    mean: list[float] | None = Field(
        None,
        description="subtracted from each channel; default: as the network's own weights ask for",
        min_length=1,
    )
    std: list[float] | None = Field(
        None,
        description="divides each channel; default: as the network's own weights ask for",
        min_length=1,
    )


class NetworkSettings(Preprocessing):
    """What a network was trained on, and how its inputs are made."""

    classes: Path | None = Field(
        None,
        description="names of the classes: text file with one a line, or table (class_index, "
        "class_name); default: as the network's own weights have them",
    )
    training_size: Positive = Field(
        1_281_167, description="number N of images it was trained on, for the Laplace correction"
    )


class ImageNetworkSettings(ClassifierSettings, NetworkSettings):
    """A network of images."""

    files: ClassVar[tuple[str, ...]] = ("weights.safetensors",)
    is_light: ClassVar[bool] = True
    dimensions: ClassVar[int] = 2

    @property
    def geometry(self) -> Geometry:
        """As set."""
        return self.part(Geometry)

    def input_files(self) -> list[Path]:
        """Names of the classes."""
        return [] if self.classes is None else [self.classes]
