"""Settings of all networks of images: preprocessing, classes, and size of the training set."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from preddiff.classifiers.base import ClassifierSettings
from preddiff.datasets.base import Geometry
from preddiff.settings.base import Positive


class Preprocessing(Geometry):
    """How pixel values from 0 to 1 are standardised for a network."""

    mean: list[float] | None = Field(
        None,
        description="mean of each channel, which is subtracted; default: that of the network's "
        "pretrained weights",
        min_length=1,
    )
    std: list[float] | None = Field(
        None,
        description="standard deviation by which each channel is divided; default: that of the "
        "network's pretrained weights",
        min_length=1,
    )


class NetworkSettings(Preprocessing):
    """Preprocessing, classes and training set of a network."""

    classes: Path | None = Field(
        None,
        description="names of the classes: a text file with one name per line, or a table "
        "(class_index, class_name); default: those of the network's pretrained weights, or numbers",
    )
    training_size: Positive = Field(
        1_281_167,
        description="number N of images that it was trained on, for the Laplace correction",
    )


class ImageNetworkSettings(ClassifierSettings, NetworkSettings):
    """A network of images."""

    files: ClassVar[tuple[str, ...]] = ("weights.safetensors",)
    is_light: ClassVar[bool] = True
    dimensions: ClassVar[int] = 2

    @property
    def geometry(self) -> Geometry:
        """Size of the images, as set."""
        return self.part(Geometry)

    def input_files(self) -> list[Path]:
        """List the file with the names of the classes."""
        return [] if self.classes is None else [self.classes]
