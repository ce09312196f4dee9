"""Settings of networks: preprocessing, classes, size of the training set, part of volumes."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from preddiff.classifiers.base import ClassifierSettings, missing_column
from preddiff.datasets.base import DatasetSettings, Geometry
from preddiff.datasets.slab import Slab
from preddiff.settings.base import Positive

# Images of ImageNet's training set (ILSVRC 2012).
TRAINING_SIZE = 1_281_167

Deviation = Annotated[float, Field(gt=0)]


class Preprocessing(Geometry):
    """How pixel values from 0 to 1 are standardised for a network."""

    mean: list[float] | None = Field(
        None,
        description="mean of each channel, which is subtracted; default: that of the network's "
        "pretrained weights",
        min_length=1,
    )
    std: list[Deviation] | None = Field(
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
        TRAINING_SIZE,
        description="number N of images that it was trained on, for the Laplace correction",
    )


class ImageNetworkSettings(ClassifierSettings, NetworkSettings):
    """A network of images."""

    files: ClassVar[tuple[str, ...]] = ("weights.safetensors",)
    is_light: ClassVar[bool] = True
    is_trained: ClassVar[bool] = False

    @property
    def dimensions(self) -> int:
        """Two spatial axes."""
        return 2

    @property
    def geometry(self) -> Geometry:
        """Size of the images, as set."""
        return self.part(Geometry)

    def input_files(self) -> list[Path]:
        """List the file with the names of the classes."""
        return [] if self.classes is None else [self.classes]


class VolumeNetworkSettings(Slab):
    """What a network of volumes sees of them, how they are standardised, and what it returns."""

    slices: tuple[int, int] | None = Field(
        None,
        description="of volumes: first and last slice that the network sees, inclusive, counted "
        "from 0; default: the whole volume",
    )
    outputs: Literal["classes", "value"] = Field(
        "classes",
        description="classes: one logit per class or, of two classes, the log-odds of the second; "
        "value: a number, such as an age, which is explained by its difference",
    )
    mean: list[float] | None = Field(
        None,
        description="mean of each channel, which is subtracted; default: of volumes, that of the "
        "training volumes over what the network sees; required for images",
        min_length=1,
    )
    std: list[Deviation] | None = Field(
        None,
        description="standard deviation by which each channel is divided, given together with "
        "mean; default: of volumes, that of the training volumes; required for images",
        min_length=1,
    )
    training_size: Positive | None = Field(
        None,
        description="number N of items that it was trained on, for the Laplace correction; "
        "default: of volumes, the training items of the dataset; of images, 1281167",
    )

    @model_validator(mode="after")
    def _give_both_moments(self) -> "VolumeNetworkSettings":
        if (self.mean is None) != (self.std is None):
            given, missing = ("mean", "std") if self.std is None else ("std", "mean")
            raise ValueError(f"{missing} is required with {given}: give both, or none")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}: give one per channel"
            )
        return self


class VolumeNetworkClassifier(ClassifierSettings, VolumeNetworkSettings):
    """A network of volumes that the user has trained."""

    files: ClassVar[tuple[str, ...]] = ("weights.safetensors",)
    is_trained: ClassVar[bool] = False

    @property
    def has_probabilities(self) -> bool:
        """Whether its outputs are logits of classes."""
        return self.outputs == "classes"

    def problem_with(self, dataset: DatasetSettings) -> str | None:
        """Say what the dataset has no column for."""
        return missing_column(dataset, self.outputs == "value")
