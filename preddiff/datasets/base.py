"""What kinds of datasets have in common: their settings, what they can do, and their registry."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Union

from pydantic import Discriminator, Field, Tag

from preddiff.registry import Registry
from preddiff.settings.base import Positive, Settings


class Geometry(Settings):
    """How image files become inputs of one size."""

    resize: Positive | None = Field(
        None,
        description="pixels of the shorter side after resizing; default: as the network's own "
        "weights ask for",
    )
    crop: Positive | None = Field(
        None,
        description="side of the central square that is cut out; default: as the network's own "
        "weights ask for",
    )


class DatasetSettings(Settings):
    """A dataset: where its items come from.

    Attributes
    ----------
    source : str
        The key of a configuration that tells this kind of dataset from the others.
    command : str
        Subcommand that makes its data store.
    table_command : str, optional
        Subcommand that makes the table of its items, where the user has none.
    dimensions, channels : int
        Spatial axes and channels of its items.
    space : tuple of int, optional
        Spatial shape of its items, where it is the same for all datasets of this kind.
    needs_geometry : bool
        Whether items are resized and cut for each classifier, so that it has several stores.
    """

    source: ClassVar[str]
    command: ClassVar[str]
    table_command: ClassVar[str | None] = None
    dimensions: ClassVar[int]
    channels: ClassVar[int]
    space: ClassVar[tuple[int, ...] | None] = None
    needs_geometry: ClassVar[bool] = False

    @property
    def preparation(self) -> Settings:
        """Settings that the data store depends on, as its subcommand takes them."""
        return self

    @property
    def table_settings(self) -> Settings | None:
        """Settings of the subcommand that makes the table, if there is one."""
        return None

    @property
    def given_table(self) -> Path | None:
        """The user's table of items, for a subcommand that takes one."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, where the settings tell them."""
        return ()

    @property
    def has_truth(self) -> bool:
        """Whether the voxels that a map should find are known."""
        return False

    def input_files(self) -> list[Path]:
        """Files that the data store depends on, as far as they exist.

        Raises
        ------
        InputError
            If a table or a folder that names them cannot be read.
        """
        return []

    def number_of_items(self) -> int:
        """Items that are explained at most.

        Raises
        ------
        InputError
            If a table or a folder that names them cannot be read.
        """
        raise NotImplementedError


class DatasetRegistry(Registry[type[DatasetSettings]]):
    """Kinds of datasets, told by which key says where the items come from."""

    def name_of(self, kind: type) -> str:
        """Name of a kind: its source."""
        return str(kind.source)  # type: ignore[attr-defined]

    def tag(self, data: Any) -> str | None:
        """Source of a dataset; None if several are given, or none."""
        if not isinstance(data, dict):
            return str(data.source)
        given = [name for name in self.names() if data.get(name) is not None]
        return given[0] if len(given) == 1 else None

    def union(self) -> Any:
        """Type of a pydantic field that takes a dataset of any kind."""
        kinds = tuple(Annotated[kind, Tag(kind.source)] for kind in self)
        discriminator = Discriminator(
            self.tag,
            custom_error_type="source",
            custom_error_message=f"give exactly one of {', '.join(self.names())}: where its items "
            "come from",
        )
        return Annotated[Union[kinds], discriminator]  # noqa: UP007


DATASETS = DatasetRegistry("preddiff.datasets")
