"""Stage nifti: write relevance as NIfTI files on the grid of the scans."""

import argparse
from pathlib import Path

import numpy as np

from preddiff.datasets.items import Items
from preddiff.datasets.slab import on_grid, save_volume
from preddiff.progress import progress
from preddiff.settings.options import add_path
from preddiff.storage.files import replace_folder
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import array, attributes, open_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("store", type=Path, help="relevance store")
    add_path(parser, "--data", "data store")
    add_path(parser, "--out", "folder for the NIfTI files")


def run(arguments: argparse.Namespace) -> None:
    """Write the files."""
    write_niftis(arguments.store, arguments.data, arguments.out)


def write_niftis(relevance_store: Path, data: Path, out: Path) -> None:
    """Write one NIfTI file per item and target, on the grid of the volumes, 0 outside the slab.

    File names consist of number, item and target, such as
    `0001_sub-001_probability-patient.nii.gz`. Characters other than letters, digits, `-` and `_`
    are replaced by `-`.
    """
    store, items = open_relevance(relevance_store), Items(data)
    about = attributes(store)
    corner, space = about["corner"], about["space"]
    slab = tuple(slice(c, c + n) for c, n in zip(corner, space, strict=True))
    dataset = open_dataset(relevance_store)
    with replace_folder(out) as folder:
        for number, name in enumerate(progress(dataset["item"].values, desc="nifti", unit="item")):
            values = np.asarray(array(store, "relevance")[number])
            for row, target in enumerate(dataset["target"].values):
                file = f"{number + 1:04d}_{_plain(str(name))}_{_plain(str(target))}.nii.gz"
                save_volume(on_grid(values[row], slab, items), items.affine, folder / file)


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)
