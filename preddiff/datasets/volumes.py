"""Cohorts of volumes: a table of subjects, and their NIfTI files on a common grid."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from pydantic import Field, field_validator

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
    group: str = Field("group", description="column with the subjects' classes")
    file: str = Field("fa", description="column with the NIfTI files, relative to the table")
    truth: str | None = Field(
        None, description="column with masks of known lesions; default: no masks"
    )
    classes: tuple[str, str] = Field(
        ("control", "patient"),
        description="the two values of the group column; evidence is for the second",
    )
    balance: bool = Field(
        True,
        description="train on equal numbers of both classes: of the larger class, the first "
        "subjects in the table",
    )

    @field_validator("classes")
    @classmethod
    def _different(cls, classes: tuple[str, str]) -> tuple[str, str]:
        if classes[0] == classes[1]:
            raise ValueError("give two different classes")
        return classes


class VolumeSettings(DatasetSettings, Columns):
    """A cohort of volumes: subjects, and their NIfTI files on one grid."""

    command: ClassVar[str] = "prepare"
    dimensions: ClassVar[int] = 3
    channels: ClassVar[int] = 1

    @property
    def preparation(self) -> Settings:
        """Columns of the table."""
        return self.part(Columns)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Both classes."""
        return self.classes

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
        files = [s.file for s in subjects] + [s.truth for s in subjects if s.truth]
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
    file : Path
    truth : Path or None
        Mask of planted or known lesions.
    training : bool
        Whether the subject is used for training classifiers and fitting Gaussians.
    """

    name: str
    group: str
    file: Path
    truth: Path | None
    training: bool


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
        Which columns to read, the two classes, and whether to balance the training items.

    Returns
    -------
    list of Subject
        In the order of the table.

    Raises
    ------
    InputError
        If the table or a column is missing, a subject is listed twice or has no name or file, a
        group is not one of the classes, or a class has no subjects.
    """
    table = tables.read_table(path, hint="name yours as the dataset's table")
    for column in (columns.subject, columns.group, columns.file, columns.truth):
        if column is not None:
            tables.find_column(table, path, column)
    # Empty lines between subjects are ignored.
    table = table[(table != "").any(axis=1)]
    names = [value.strip() for value in table[columns.subject]]
    groups = [value.strip() for value in table[columns.group]]
    _check_names(path, table.index, names)
    _check_groups(path, names, groups, columns.classes)
    training = _choose_training(groups, columns.classes, columns.balance)
    truths = table[columns.truth] if columns.truth else [""] * len(names)
    return [
        Subject(name, group, _required_file(path, name, file), _optional_file(path, truth), chosen)
        for name, group, file, truth, chosen in zip(
            names, groups, table[columns.file], truths, training, strict=True
        )
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
    path: Path, names: Sequence[str], groups: Sequence[str], classes: tuple[str, str]
) -> None:
    for name, group in zip(names, groups, strict=True):
        if group not in classes:
            raise InputError(
                f"{path}: subject '{name}' has group '{group}', but the classes are "
                f"'{classes[0]}' and '{classes[1]}'"
            )
    for label in classes:
        if label not in groups:
            raise InputError(f"{path}: no subject has group '{label}'; both classes are needed")


def _choose_training(groups: Sequence[str], classes: tuple[str, str], balance: bool) -> list[bool]:
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


def _optional_file(table: Path, value: str) -> Path | None:
    return None if value.strip().lower() in _MISSING else table.parent / value.strip()


def read_volume(path: Path, subject: str) -> Volume:
    """Read a NIfTI volume.

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
        raise InputError(f"subject '{subject}': {path}: no such file") from None
    except (ImageFileError, OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(
            f"subject '{subject}': {path}: not readable as NIfTI, or truncated ({error})"
        ) from None
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(
            f"subject '{subject}': {path} has {values.ndim} dimensions, but volumes have three"
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"subject '{subject}': {path} contains {(~np.isfinite(values)).sum()} values that are "
            "NaN or infinite; replace them, for example by 0 outside the brain"
        )
    return Volume(values, np.asarray(image.affine, dtype=np.float64))


def require_same_grid(first: Volume, other: Volume, path: Path, subject: str) -> None:
    """Check that a volume has the grid of the first one.

    Raises
    ------
    InputError
        If its shape or its affine differs. The message names the file and the subject.
    """
    if other.values.shape != first.values.shape:
        raise InputError(
            f"subject '{subject}': {path} has shape {other.values.shape}, but the first subject's "
            f"volume has {first.values.shape}: resample all volumes to one grid"
        )
    if not np.allclose(other.affine, first.affine, atol=_TOLERANCE):
        raise InputError(
            f"subject '{subject}': {path} has another affine than the first subject's volume, so "
            "that their voxels do not coincide: resample all volumes to one grid"
        )
