"""Base class and registry of the kinds of datasets."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Union

from pydantic import Discriminator, Field, Tag

from preddiff.registry import Registry
from preddiff.settings.base import Positive, Settings


class Geometry(Settings):
    """How images are resized and cropped to inputs of one size."""

    resize: Positive | None = Field(
        None,
        description="length of the shorter side after resizing, in pixels; default: that of the "
        "network's pretrained weights",
    )
    crop: Positive | None = Field(
        None,
        description="side of the central square that is cropped, in pixels; default: that of the "
        "network's pretrained weights",
    )


class DatasetSettings(Settings):
    """A dataset: where its items come from.

    Attributes
    ----------
    source : str
        Configuration key by which this kind of dataset is recognised.
    command : str
        Subcommand that writes its data store.
    table_command : str, optional
        Subcommand that writes the table of its items, if the user does not provide one.
    table_path : str
        Where it writes that, within the results; contains `{dataset}`.
    dimensions : int
        Number of spatial axes of its items.
    space : tuple of int, optional
        Spatial shape of its items, if it is the same for all datasets of this kind.
    needs_geometry : bool
        Whether items are resized and cropped for each classifier, so that there is one data store
        for each size.
    """

    source: ClassVar[str]
    command: ClassVar[str]
    table_command: ClassVar[str | None] = None
    table_path: ClassVar[str] = "cohorts/{dataset}/participants.tsv"
    dimensions: ClassVar[int]
    space: ClassVar[tuple[int, ...] | None] = None
    needs_geometry: ClassVar[bool] = False

    @property
    def preparation(self) -> Settings:
        """Settings of the subcommand that writes the data store."""
        return self

    def preparation_with(self, table: Path) -> Settings:
        """Settings of the subcommand that writes the data store, with a table that a rule wrote."""
        return self.preparation

    @property
    def table_settings(self) -> Settings | None:
        """Settings of the subcommand that writes the table; None if there is none."""
        return None

    @property
    def given_table(self) -> Path | None:
        """The user's table of items; None if there is none."""
        return None

    @property
    def channels(self) -> int:
        """Channels of its items."""
        raise NotImplementedError

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty if they are not part of the settings."""
        return ()

    @property
    def group_column(self) -> str | None:
        """Column of its table with the classes; None if there is none."""
        return None

    @property
    def value_name(self) -> str | None:
        """Name of the number that regressions predict; None if there is none."""
        return None

    @property
    def nuisance_variables(self) -> tuple[str, ...]:
        """Names of the variables that can be regressed out of the items' values."""
        return ()

    @property
    def has_truth(self) -> bool:
        """Whether masks of the voxels that a map should find are available."""
        return False

    @property
    def has_boxes(self) -> bool:
        """Whether boxes of the objects that a map should find are available."""
        return False

    def input_files(self) -> list[Path]:
        """List the existing files that the data store depends on.

        Raises
        ------
        InputError
            If the table or the folder of items cannot be read.
        """
        return []

    def number_of_items(self) -> int:
        """Largest number of items that can be explained.

        Raises
        ------
        InputError
            If the table or the folder of items cannot be read.
        """
        raise NotImplementedError


class DatasetRegistry(Registry[type[DatasetSettings]]):
    """Registry of the kinds of datasets, which are recognised by the key of their source."""

    def name_of(self, kind: type) -> str:
        """Name of a kind: its source."""
        return str(kind.source)  # type: ignore[attr-defined]

    def tag(self, data: Any) -> str | None:
        """Source of a dataset; None unless exactly one is given."""
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
            custom_error_message=f"give exactly one of {', '.join(self.names())}, as the "
            "source of the items",
        )
        return Annotated[Union[kinds], discriminator]  # noqa: UP007


DATASETS = DatasetRegistry("preddiff.datasets")
