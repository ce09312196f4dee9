"""Protocol of classifiers, and base class and registry of the kinds of classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from preddiff.datasets.base import DatasetSettings, Geometry
from preddiff.registry import Registry
from preddiff.settings.base import Settings
from preddiff.targets import Target


class Classifier(Protocol):
    """A classifier and its capabilities.

    Attributes
    ----------
    has_exact_form : bool
        Whether it is linear, so that expectations can be computed from its weights, without forward
        passes.
    has_layers : bool
        Whether it has hidden layers that can be explained.
    """

    has_exact_form: ClassVar[bool]
    has_layers: ClassVar[bool]

    @property
    def ranks_classes(self) -> bool:
        """Whether targets can name the true class or the top classes of an item.

        These are read from a table of predictions.
        """
        ...

    @property
    def has_probabilities(self) -> bool:
        """Whether its outputs are probabilities and logits of classes, rather than other values."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs: of the classes, or of the values that are predicted."""
        ...

    @property
    def training_size(self) -> int:
        """Number N of training instances, for the Laplace correction."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the input."""
        ...

    @property
    def space(self) -> tuple[int, ...]:
        """Spatial shape of the input."""
        ...

    @property
    def corner(self) -> tuple[int, ...]:
        """First voxel of the input within the items."""
        ...

    @property
    def slab(self) -> tuple[slice, ...]:
        """The input within the items, one slice per axis."""
        ...

    @property
    def cuts_items(self) -> bool:
        """Whether its input is a part of the items, which can have any shape."""
        ...

    @property
    def digest(self) -> str:
        """Digest of everything that the output depends on."""
        ...

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions that the output depends on: roots of `digest_code`."""
        ...

    def facts_of(self, item: str) -> list[float | str]:
        """What the output for an item depends on besides its values and the digest."""
        ...

    def has_exact_expectation(self, target: Target) -> bool:
        """Whether the expectation of a target can be computed without draws."""
        ...

    def count_maps(self, layer: str) -> int:
        """Count the feature maps of a layer.

        Raises
        ------
        InputError
            If there is no such layer.
        """
        ...

    def class_number(self, label: str) -> int:
        """Number of a class.

        Raises
        ------
        InputError
            If there is no such class.
        """
        ...


@dataclass(frozen=True)
class Unit:
    """What a unit of a layer stands for.

    Attributes
    ----------
    name : str
    class_number : int, optional
        Number of the class that it speaks for or against.
    """

    name: str
    class_number: int | None = None


class ClassifierSettings(Settings):
    """A classifier, and how it is made.

    Attributes
    ----------
    command : str
        Subcommand that makes it. Kinds that share one have the same files.
    files : tuple of str
        Files that the subcommand writes into the classifier's folder, besides `classifier.json`.
    is_light : bool
        Whether making it takes too little time for a separate job on a cluster.
    is_trained : bool
        Whether the study trains it, which takes a seed and gives scores (`cv.json`).
    is_network : bool
        Whether it is evaluated by forward passes, which are faster on a GPU.
    has_exact_form, has_layers : bool
        Capabilities of the classifier that is made; see `Classifier`.
    has_folds : bool
        Whether the models of the folds of its cross-validation are stored, which `held_out`
        explains items by.
    """

    command: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    is_light: ClassVar[bool] = False
    is_trained: ClassVar[bool] = True
    is_network: ClassVar[bool] = True
    has_exact_form: ClassVar[bool] = False
    has_layers: ClassVar[bool] = True
    has_folds: ClassVar[bool] = False

    @property
    def ranks_classes(self) -> bool:
        """Capability of the classifier that is made; see `Classifier`."""
        return self.has_probabilities

    @property
    def has_probabilities(self) -> bool:
        """Capability of the classifier that is made; see `Classifier`."""
        return True

    @property
    def dimensions(self) -> int:
        """Number of spatial axes of the input."""
        raise NotImplementedError

    @property
    def channels(self) -> int | None:
        """Channels of the input; None if any number is accepted."""
        return None

    @property
    def space(self) -> tuple[int, ...] | None:
        """Spatial shape of the input; None if it is not fixed."""
        return None

    @property
    def training_dataset(self) -> str | None:
        """Name of the dataset that it is trained on; None if that is not part of the study."""
        return None

    @property
    def base_classifier(self) -> str | None:
        """Name of the network of the study that it is made from; None if there is none."""
        return None

    def on(self, base: "ClassifierSettings") -> "ClassifierSettings":
        """Return these settings with those of the network that they name as `base_classifier`."""
        return self

    def names_of_outputs(self, dataset: DatasetSettings) -> tuple[str, ...]:
        """Names of its outputs if it is trained on a dataset; empty if the data will tell."""
        if self.has_probabilities:
            return dataset.class_names
        return () if dataset.value_name is None else (dataset.value_name,)

    def problem_with(self, dataset: DatasetSettings) -> str | None:
        """Say why it cannot be trained on a dataset of its dimensions and channels; None if it can.

        The text begins with the key to change.
        """
        return None

    @property
    def stage_settings(self) -> Settings:
        """Settings of the subcommand that makes the classifier."""
        return self

    @property
    def geometry(self) -> Geometry | None:
        """How images are resized and cropped for it; None if it accepts items as they are.

        Raises
        ------
        InputError
            If it depends on pretrained weights that are unknown.
        """
        return None

    @property
    def weights_to_fetch(self) -> tuple[str, str] | None:
        """Names of the network and of the weights to download; None if there are none."""
        return None

    def input_files(self) -> list[Path]:
        """List the user's files that it depends on."""
        return []

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions that the classifier's output depends on: roots of `digest_code`."""
        return self.code_of_network()

    @classmethod
    def code_of_network(cls) -> tuple[str, ...]:
        """Definitions that the output of a network of this kind depends on; see `code`."""
        network = "preddiff.classifiers.network"
        return (
            f"{network}:Network",
            f"{network}_nodes:NetworkNodes",
            f"{cls.__module__}:{cls.__name__}",
        )

    @classmethod
    def code_of_stored(cls, architecture: Mapping[str, Any]) -> tuple[str, ...]:
        """Definitions that the output of a stored network depends on; see `rebuild`."""
        return cls.code_of_network()

    @classmethod
    def unit(cls, architecture: Mapping[str, Any], layer: str, number: int) -> Unit | None:
        """Return what a unit of a layer stands for, for figures; None if nothing is known.

        Parameters
        ----------
        architecture : mapping
            As in `rebuild`.
        layer : str
        number : int
        """
        return None

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> Any:
        """Rebuild a network of this kind, without weights.

        Parameters
        ----------
        architecture : mapping
            Description of the network in its `classifier.json`, under the name of its kind.
        classes : int
        folder : Path
            Folder of the classifier.

        Returns
        -------
        nn.Module

        Raises
        ------
        InputError
            If it cannot be rebuilt, for example because its Python file has changed.
        """
        raise NotImplementedError


CLASSIFIERS: Registry[type[ClassifierSettings]] = Registry("preddiff.classifiers")


def kind_of(architecture: Mapping[str, Any]) -> str:
    """Name of the kind whose settings describe a network: the key of its description.

    Raises
    ------
    StopIteration
        If no kind describes it.
    """
    return next(name for name in CLASSIFIERS.names() if name in architecture)


def no_folds() -> str:
    """Return the message, after the name of a classifier, if `held_out` cannot be with it."""
    kinds = ", ".join(CLASSIFIERS.name_of(kind) for kind in CLASSIFIERS if kind.has_folds)
    return (
        "has no models of folds, which are stored with classifiers that the study cross-validates "
        f"({kinds}): remove held_out, or choose one of these"
    )


def missing_column(cohort: DatasetSettings, predicts_values: bool) -> str | None:
    """Say which column of a cohort a classifier lacks, classes or numbers; None if it is there.

    The text begins with the key to change, as that of `problem_with` does.
    """
    if predicts_values and cohort.value_name is None:
        return "dataset: a regression needs a column with numbers, the dataset's `value`"
    if not predicts_values and not cohort.class_names:
        return "dataset: a classifier needs a column with classes, the dataset's `group`"
    return None
