"""What classifiers have in common: their protocol, settings and registry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from preddiff.datasets.base import Geometry
from preddiff.registry import Registry
from preddiff.settings.base import Settings


class Classifier(Protocol):
    """What all classifiers have in common.

    Attributes
    ----------
    has_exact_form : bool
        Whether it is linear, so that expectations follow from its weights without forward passes.
    has_layers : bool
        Whether it has hidden layers that can be explained.
    ranks_classes : bool
        Whether a table of its predictions tells each item's true and top classes.
    """

    has_exact_form: ClassVar[bool]
    has_layers: ClassVar[bool]
    ranks_classes: ClassVar[bool]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
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
        """Where the input starts in the items."""
        ...

    @property
    def slab(self) -> tuple[slice, ...]:
        """The input within the items, one slice per axis."""
        ...

    @property
    def cuts_items(self) -> bool:
        """Whether it cuts its input out of items of any shape."""
        ...

    @property
    def digest(self) -> str:
        """Digest of everything that the output depends on."""
        ...

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions that the output depends on: roots of `digest_code`."""
        ...

    def class_number(self, label: str) -> int:
        """Number of a class.

        Raises
        ------
        InputError
            If there is no such class.
        """
        ...


class ClassifierSettings(Settings):
    """A classifier: where it comes from.

    Attributes
    ----------
    command : str
        Subcommand that makes it.
    files : tuple of str
        What that writes into the classifier's folder beside `classifier.json`.
    is_light : bool
        Whether making it is too little work for a job of its own on a cluster.
    dimensions, channels : int
        Spatial axes and channels of its inputs.
    is_network : bool
        Whether it is evaluated by forward passes, which a GPU makes faster.
    has_exact_form, has_layers, ranks_classes : bool
        As of the classifier that is made; see `Classifier`.
    """

    command: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    is_light: ClassVar[bool] = False
    dimensions: ClassVar[int]
    is_network: ClassVar[bool] = True
    has_exact_form: ClassVar[bool] = False
    has_layers: ClassVar[bool] = True
    ranks_classes: ClassVar[bool] = True

    @property
    def channels(self) -> int | None:
        """Channels of the input; None if any number will do."""
        return None

    @property
    def space(self) -> tuple[int, ...] | None:
        """Spatial shape of the input, where it is always the same."""
        return None

    @property
    def training_dataset(self) -> str | None:
        """Name of the dataset that it is trained on, if the study trains it."""
        return None

    @property
    def stage_settings(self) -> Settings:
        """Settings that the classifier depends on, as its subcommand takes them."""
        return self

    @property
    def geometry(self) -> Geometry | None:
        """How image files are resized and cut for it; None if it takes items as they are.

        Raises
        ------
        InputError
            If its weights, which tell that, are not known.
        """
        return None

    @property
    def weights_to_fetch(self) -> tuple[str, str] | None:
        """Network and weights that are fetched from the internet, by their names."""
        return None

    def input_files(self) -> list[Path]:
        """The user's files that it is made from."""
        return []

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions that the classifier's output depends on: roots of `digest_code`."""
        return self.code_of_network()

    @classmethod
    def code_of_network(cls) -> tuple[str, ...]:
        """As `code`, of a network that this kind makes."""
        network = "preddiff.classifiers.network"
        return (
            f"{network}:Network",
            f"{network}:NetworkNodes",
            f"{cls.__module__}:{cls.__name__}",
        )

    @classmethod
    def rebuild(cls, architecture: Mapping[str, Any], classes: int, folder: Path) -> Any:
        """Build a network of this kind again, without weights.

        Parameters
        ----------
        architecture : mapping
            What the network noted when it was stored, by the name of its kind.
        classes : int
        folder : Path
            Where it is stored.

        Returns
        -------
        nn.Module

        Raises
        ------
        InputError
            If that is not possible any more.
        """
        raise NotImplementedError


CLASSIFIERS: Registry[type[ClassifierSettings]] = Registry("preddiff.classifiers")
