"""Stage prepare: validate a cohort and write it as a Zarr store."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from preddiff.datasets.nuisance import Design, design
from preddiff.datasets.volumes import (
    Columns,
    Subject,
    Volume,
    read_table,
    read_volume,
    require_same_grid,
)
from preddiff.errors import InputError
from preddiff.progress import progress
from preddiff.settings.options import add_path, add_settings, read_settings
from preddiff.storage.files import replace_folder
from preddiff.storage.provenance import digest_arrays, digest_file
from preddiff.storage.stores import Variable, array, axes, create


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("table", type=Path, help="table of subjects, tab- or comma-separated")
    add_settings(parser, Columns)
    add_path(parser, "--out", "data store to write")


def run(arguments: argparse.Namespace) -> None:
    """Write the store."""
    prepare(arguments.table, read_settings(arguments, Columns), arguments.out)


def prepare(table: Path, columns: Columns, out: Path) -> None:
    """Validate a cohort and write it as a Zarr store.

    The store holds `intensity` (item, x, y, z) or, of several columns of files, (item, channel, x,
    y, z), one chunk per item; `truth` (item, x, y, z), if the table has masks; `group`,
    `class_number`, `training`, `digest`, `value` (NaN if there is none) and `nuisance` variables of
    each item; and the affine.

    Parameters
    ----------
    table : Path
        Table of subjects; see `preddiff.datasets.volumes.read_table`.
    columns : Columns
    out : Path
        Store to write; it appears when it is complete.

    Raises
    ------
    InputError
        If the table or a volume is not valid.
    """
    subjects = read_table(table, columns)
    try:
        nuisance = design(
            columns.nuisance, [s.name for s in subjects], [s.nuisance for s in subjects]
        )
    except InputError as error:
        raise InputError(f"{table}: {error}") from None
    first = read_volume(subjects[0].files[0], subjects[0].name)
    mask = None if columns.mask is None else _read_mask(columns.mask, first)
    with replace_folder(out) as folder:
        _create(folder, table, columns, subjects, first, nuisance)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        for number, subject in enumerate(progress(subjects, desc="prepare", unit="subject")):
            values = np.stack([_read(file, subject, first) for file in subject.files])
            if columns.standardise in ("volume", "mask"):
                values = _standardised(values, mask, subject)
            intensity = values if len(values) > 1 else values[0]
            array(group, "intensity")[number] = intensity
            array(group, "digest")[number] = digest_arrays(intensity)
            if subject.truth is not None:
                truth = _read(subject.truth, subject, first)
                array(group, "truth")[number] = (truth > 0).astype("u1")


def _read(path: Path, subject: Subject, first: Volume) -> NDArray[np.float32]:
    """Read a volume (x, y, z) on the grid of the first one."""
    volume = read_volume(path, subject.name)
    require_same_grid(first, volume, path, subject.name)
    return volume.values


def _read_mask(path: Path, first: Volume) -> NDArray[np.bool_]:
    """Read the mask of all subjects (x, y, z)."""
    volume = read_volume(path)
    require_same_grid(first, volume, path)
    mask = volume.values > 0
    if not mask.any():
        raise InputError(f"{path}: the mask is empty")
    return mask


def _standardised(
    values: NDArray[np.float32], mask: NDArray[np.bool_] | None, subject: Subject
) -> NDArray[np.float32]:
    """Convert each channel of a subject's values (channels, x, y, z) to z-scores."""
    found = []
    for channel, file in zip(values, subject.files, strict=True):
        chosen = (channel if mask is None else channel[mask]).astype(np.float64)
        deviation = chosen.std()
        if not deviation > 0:
            raise InputError(
                f"subject '{subject.name}': {file} is constant, so that it cannot be standardised"
            )
        found.append((channel - chosen.mean()) / deviation)
    return np.stack(found).astype(np.float32)


def _create(
    folder: Path,
    table: Path,
    columns: Columns,
    subjects: list[Subject],
    first: Volume,
    nuisance: Design,
) -> None:
    shape, channels = first.values.shape, len(columns.files)

    def per_voxel(meaning: str, dtype: str, channel: tuple[int, ...] = ()) -> Variable:
        return Variable(
            ("item", *(("channel",) if channel else ()), *axes(3)),
            (len(subjects), *channel, *shape),
            (1, *channel, *shape),
            {"long_name": meaning},
            dtype=dtype,
        )

    several = (channels,) if channels > 1 else ()
    variables = {"intensity": per_voxel(", ".join(columns.files), "float32", several)}
    if columns.truth is not None:
        variables["truth"] = per_voxel("1 where the item has a known lesion", "uint8")
    names = columns.labels
    numbers = [names.index(s.group) if names else -1 for s in subjects]
    coordinates: dict[str, tuple[str | tuple[str, ...], Any]] = {
        "item": ("item", np.array([s.name for s in subjects])),
        "group": ("item", np.array([s.group for s in subjects])),
        "class_number": ("item", np.array(numbers)),
        "training": ("item", np.array([s.training for s in subjects])),
        "digest": ("item", np.array([""] * len(subjects))),
        "value": ("item", np.array([s.value for s in subjects])),
        **{axis: (axis, np.arange(n)) for axis, n in zip(axes(3), shape, strict=True)},
    }
    if several:
        coordinates["channel"] = ("channel", np.array(columns.files))
    if columns.nuisance:
        coordinates["nuisance_variable"] = ("nuisance_variable", np.array(nuisance.columns))
        coordinates["nuisance"] = (("item", "nuisance_variable"), nuisance.values)
    create(
        folder,
        variables,
        coordinates,
        {"columns": columns.model_dump(mode="json"), "table": digest_file(table)},
        {
            "classes": list(names),
            "value_name": columns.value,
            "nuisance_levels": nuisance.levels,
            "affine": first.affine.tolist(),
        },
    )
