"""Stage prepare: validate a cohort and write it as a Zarr store."""

import argparse
from pathlib import Path

import numpy as np
import zarr

from preddiff.datasets.volumes import (
    Columns,
    Subject,
    Volume,
    read_table,
    read_volume,
    require_same_grid,
)
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

    The store holds `intensity` (item, x, y, z), one chunk per item; `truth` of the same
    shape, if the table has masks; `group`, `class_number`, `training` and `digest` of each item;
    and the affine.

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
    first = read_volume(subjects[0].file, subjects[0].name)
    with replace_folder(out) as folder:
        _create(folder, table, columns, subjects, first)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        for number, subject in enumerate(progress(subjects, desc="prepare", unit="subject")):
            volume = read_volume(subject.file, subject.name)
            require_same_grid(first, volume, subject.file, subject.name)
            array(group, "intensity")[number] = volume.values
            array(group, "digest")[number] = digest_arrays(volume.values)
            if subject.truth is not None:
                mask = read_volume(subject.truth, subject.name)
                require_same_grid(first, mask, subject.truth, subject.name)
                array(group, "truth")[number] = (mask.values > 0).astype("u1")


def _create(
    folder: Path, table: Path, columns: Columns, subjects: list[Subject], first: Volume
) -> None:
    shape = first.values.shape

    def per_voxel(meaning: str, dtype: str) -> Variable:
        return Variable(
            ("item", *axes(3)),
            (len(subjects), *shape),
            (1, *shape),
            {"long_name": meaning},
            dtype=dtype,
        )

    variables = {"intensity": per_voxel(columns.file, "float32")}
    if columns.truth is not None:
        variables["truth"] = per_voxel("1 where the item has a known lesion", "uint8")
    coordinates = {
        "item": ("item", np.array([s.name for s in subjects])),
        "group": ("item", np.array([s.group for s in subjects])),
        "class_number": ("item", np.array([columns.classes.index(s.group) for s in subjects])),
        "training": ("item", np.array([s.training for s in subjects])),
        "digest": ("item", np.array([""] * len(subjects))),
        **{axis: (axis, np.arange(n)) for axis, n in zip(axes(3), shape, strict=True)},
    }
    create(
        folder,
        variables,
        coordinates,
        {"columns": columns.model_dump(mode="json"), "table": digest_file(table)},
        {"classes": list(columns.classes), "affine": first.affine.tolist()},
    )
