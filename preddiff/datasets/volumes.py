"""Cohorts of volumes: a table of subjects, and their NIfTI files on a common grid."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from preddiff.datasets import tables
from preddiff.datasets.base import DATASETS, DatasetSettings
from preddiff.errors import InputError
from preddiff.settings.base import Settings

# Affines whose entries differ by less than this (in mm) describe the same grid.
_TOLERANCE = 1e-3
_MISSING = ("", "n/a", "na", "nan")


class Columns(Settings):
    """Columns of the cohort's table, and how they are used (`preddiff prepare`)."""

    subject: str = Field("participant_id", description="column with the subjects' names")
    group: str | None = Field(
        "group", description="column with the subjects' classes; null if there are none"
    )
    file: str | Annotated[list[str], Field(min_length=1)] = Field(
        "fa",
        description="column with the NIfTI files, relative to the table; of several columns, such "
        "as grey and white matter, each is a channel",
    )
    truth: str | None = Field(
        None, description="column with masks of known lesions; default: no masks"
    )
    classes: list[str] = Field(
        ["control", "patient"],
        description="the values of the group column, two or more; of two, evidence is for the "
        "second",
        min_length=2,
    )
    balance: bool = Field(
        True,
        description="train on equal numbers of all classes: of larger classes, the first subjects "
        "in the table",
    )
    value: str | None = Field(
        None,
        description="column with a number that regressions predict, such as age; default: none",
    )
    nuisance: list[str] = Field(
        [],
        description="columns with nuisance variables, such as age, sex and scanner: numbers, or "
        "text, whose values become indicators, unless most cells are numbers; "
        "classifiers can regress them out of the voxels",
    )
    standardise: Literal["volume", "mask", "none"] | None = Field(
        None,
        description="volume, mask: subtract from each volume its mean and divide it by its "
        "standard deviation, over all of its voxels or those of `mask`; none: values as they are, "
        "the default for one column of files. It must be given for several: penalties, grey values "
        "and ranges are the same for all channels, so that these need a common unit",
    )
    mask: Path | None = Field(
        None, description="NIfTI mask on the grid of the volumes, for standardise: mask"
    )

    @field_validator("classes", "nuisance")
    @classmethod
    def _different(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("all names must differ")
        return names

    @field_validator("file")
    @classmethod
    def _different_files(cls, names: str | list[str]) -> str | list[str]:
        return names if isinstance(names, str) else cls._different(names)

    @model_validator(mode="after")
    def _check(self) -> "Columns":
        if self.group is None and self.value is None:
            raise ValueError("group and value are both null: classifiers need one of them")
        for key in ("classes", "balance") if self.group is None else ():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is for cohorts with classes, but group is null: remove it")
        if (self.standardise == "mask") != (self.mask is not None):
            raise ValueError("standardise: mask and a mask are needed together: give both, or none")
        if len(self.files) > 1 and self.standardise is None:
            raise ValueError(
                f"file lists {len(self.files)} columns, whose values may have different units: set "
                "standardise to volume or mask, or to none if they have the same unit"
            )
        return self

    @property
    def files(self) -> list[str]:
        """Columns with the NIfTI files, one per channel."""
        return [self.file] if isinstance(self.file, str) else self.file

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty if the subjects have none."""
        return () if self.group is None else tuple(self.classes)


class VolumeSettings(DatasetSettings, Columns):
    """A cohort of volumes: subjects, and their NIfTI files on one grid."""

    command: ClassVar[str] = "prepare"
    dimensions: ClassVar[int] = 3

    @property
    def channels(self) -> int:
        """One channel for each column of files."""
        return len(self.files)

    @property
    def preparation(self) -> Settings:
        """Columns of the table."""
        return self.part(Columns)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty if the subjects have none."""
        return self.labels

    @property
    def group_column(self) -> str | None:
        """Column of the subjects' classes."""
        return self.group

    @property
    def value_name(self) -> str | None:
        """Column of the number that regressions predict."""
        return self.value

    @property
    def nuisance_variables(self) -> tuple[str, ...]:
        """Columns of nuisance variables."""
        return tuple(self.nuisance)

    @property
    def has_truth(self) -> bool:
        """Whether the table has masks of lesions."""
        return self.truth is not None


@DATASETS.register
class Cohort(VolumeSettings):
    """A cohort of volumes: a table of subjects and their NIfTI files."""

    source: ClassVar[str] = "table"

    table: Path = Field(description="tab- or comma-separated table of the subjects")

    @property
    def given_table(self) -> Path:
        """The table."""
        return self.table

    def input_files(self) -> list[Path]:
        """List the existing volumes and masks of the table; the stage reports missing ones."""
        subjects = read_table(self.table, self)
        files = [file for s in subjects for file in s.files]
        files += [s.truth for s in subjects if s.truth] + ([self.mask] if self.mask else [])
        return [path for path in files if path.exists()]

    def number_of_items(self) -> int:
        """Subjects in the table."""
        return len(read_table(self.table, self))


@dataclass(frozen=True)
class Subject:
    """A row of the cohort's table.

    Attributes
    ----------
    name, group : str
        The group is "" if the table has none.
    files : tuple of Path
        One file per channel.
    truth : Path or None
        Mask of planted or known lesions.
    training : bool
        Whether the subject is used for training classifiers and fitting Gaussians.
    value : float
        Number that regressions predict; NaN if the table has none.
    nuisance : tuple of str
        Nuisance variables, as they are in the table.
    """

    name: str
    group: str
    files: tuple[Path, ...]
    truth: Path | None
    training: bool
    value: float = math.nan
    nuisance: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A volume and its position in space.

    Attributes
    ----------
    values : float32 array (x, y, z)
    affine : float64 array (4, 4)
        From voxels to millimetres.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]


def read_table(path: Path, columns: Columns) -> list[Subject]:
    """Read a cohort's table, tab-separated (.tsv) or comma-separated (.csv).

    Parameters
    ----------
    path : Path
        Files in it are relative to its folder.
    columns : Columns
        Which columns to read, the classes, and whether to balance the training items.

    Returns
    -------
    list of Subject
        In the order of the table.

    Raises
    ------
    InputError
        If the table or a column is missing, a subject is listed twice or has no name, file, value
        or nuisance variable, a group is not one of the classes, or a class has no subjects.
    """
    table = tables.read_table(path, hint="name yours as the dataset's table")
    single = (columns.subject, columns.group, columns.truth, columns.value)
    for column in (*single, *columns.files, *columns.nuisance):
        if column is not None:
            tables.find_column(table, path, column)
    # Empty lines between subjects are ignored.
    table = table[(table != "").any(axis=1)]
    names = [cell.strip() for cell in table[columns.subject]]
    _check_names(path, table.index, names)
    rows = list(table.to_dict("records"))
    groups = [""] * len(names)
    training = [True] * len(names)
    if columns.group is not None:
        groups = [row[columns.group].strip() for row in rows]
        _check_groups(path, names, groups, columns.classes)
        training = _choose_training(groups, columns.classes, columns.balance)
    return [
        Subject(
            name,
            group,
            tuple(_required_file(path, name, row[column]) for column in columns.files),
            _optional_file(path, row[columns.truth]) if columns.truth else None,
            chosen,
            _number(path, name, columns.value, row) if columns.value else math.nan,
            tuple(_known(path, name, column, row) for column in columns.nuisance),
        )
        for name, group, chosen, row in zip(names, groups, training, rows, strict=True)
    ]


def _check_names(path: Path, lines: Iterable[int], names: Sequence[str]) -> None:
    seen: set[str] = set()
    for line, name in zip(lines, names, strict=True):
        if not name:
            raise InputError(f"{path}, line {line}: the subject has no name")
        if name in seen:
            raise InputError(f"{path}, line {line}: subject '{name}' is listed twice")
        seen.add(name)


def _check_groups(
    path: Path, names: Sequence[str], groups: Sequence[str], classes: Sequence[str]
) -> None:
    for name, group in zip(names, groups, strict=True):
        if group not in classes:
            raise InputError(
                f"{path}: subject '{name}' has group '{group}', but the classes are "
                f"{' and '.join(repr(label) for label in classes)}"
            )
    for label in classes:
        if label not in groups:
            raise InputError(f"{path}: no subject has group '{label}'; all classes are needed")


def _choose_training(groups: Sequence[str], classes: Sequence[str], balance: bool) -> list[bool]:
    limit = min(groups.count(label) for label in classes) if balance else len(groups)
    left = dict.fromkeys(classes, limit)
    chosen = []
    for group in groups:
        chosen.append(left[group] > 0)
        left[group] -= 1
    return chosen


def _required_file(table: Path, name: str, value: str) -> Path:
    if value.strip().lower() in _MISSING:
        raise InputError(f"{table}: subject '{name}' has no file")
    return table.parent / value.strip()


def _known(table: Path, name: str, column: str, row: Mapping[Any, str]) -> str:
    value = row[column].strip()
    if value.lower() in _MISSING:
        raise InputError(
            f"{table}: subject '{name}' has no value in column '{column}': add it, or remove the "
            "subject"
        )
    return value


def _number(table: Path, name: str, column: str, row: Mapping[Any, str]) -> float:
    text = _known(table, name, column, row)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{table}: subject '{name}': '{text}' in column '{column}' is no number")
    return value


def _optional_file(table: Path, value: str) -> Path | None:
    return None if value.strip().lower() in _MISSING else table.parent / value.strip()


def read_volume(path: Path, subject: str | None = None) -> Volume:
    """Read a NIfTI volume.

    Parameters
    ----------
    path : Path
    subject : str, optional
        Name of the subject, for error messages.

    Raises
    ------
    InputError
        If the file is missing, truncated, not a NIfTI image or not three-dimensional, or contains
        NaN or infinite values. The message names the file and the subject.
    """
    try:
        image: Any = nib.load(path)
        values = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except FileNotFoundError:
        raise InputError(f"{_of(subject)}{path}: no such file") from None
    except (ImageFileError, OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(
            f"{_of(subject)}{path}: not readable as NIfTI, or truncated ({error})"
        ) from None
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(
            f"{_of(subject)}{path} has {values.ndim} dimensions, but volumes have three"
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"{_of(subject)}{path} contains {(~np.isfinite(values)).sum()} values that are "
            "NaN or infinite; replace them, for example by 0 outside the brain"
        )
    return Volume(values, np.asarray(image.affine, dtype=np.float64))


def require_same_grid(first: Volume, other: Volume, path: Path, subject: str | None = None) -> None:
    """Check that a volume has the grid of the first one.

    Raises
    ------
    InputError
        If its shape or its affine differs. The message names the file and the subject.
    """
    if other.values.shape != first.values.shape:
        raise InputError(
            f"{_of(subject)}{path} has shape {other.values.shape}, but the first subject's "
            f"volume has {first.values.shape}: resample all volumes to one grid"
        )
    if not np.allclose(other.affine, first.affine, atol=_TOLERANCE):
        raise InputError(
            f"{_of(subject)}{path} has another affine than the first subject's volume, so "
            "that their voxels do not coincide: resample all volumes to one grid"
        )


def _of(subject: str | None) -> str:
    """Start of an error message about a file of a subject, or of all subjects."""
    return "" if subject is None else f"subject '{subject}': "
