"""Stage prepare-digits: write scikit-learn's digits as a Zarr store."""

import argparse
from pathlib import Path

import zarr

from preddiff.datasets.digits import LEVELS, DigitSettings, read_digits
from preddiff.datasets.image_store import create_image_store, finish_image_store
from preddiff.settings.options import add_path, add_seed, add_settings, read_settings
from preddiff.storage.files import replace_folder
from preddiff.storage.provenance import digest_arrays
from preddiff.storage.stores import array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_settings(parser, DigitSettings)
    add_path(parser, "--out", "data store to write")
    add_seed(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the store."""
    prepare_digits(read_settings(arguments, DigitSettings), arguments.seed, arguments.out)


def prepare_digits(settings: DigitSettings, seed: int, out: Path) -> None:
    """Write scikit-learn's digits as a Zarr store, divided into training and test items.

    Parameters
    ----------
    settings : DigitSettings
    seed : int
        Seed of the division into training and test items.
    out : Path
    """
    images, labels, training = read_digits(settings.test, seed)
    with replace_folder(out) as folder:
        create_image_store(folder, images.shape, 1 / LEVELS)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        array(group, "intensity")[:] = images
        finish_image_store(
            folder,
            names=[f"digit-{number:04d}" for number in range(len(images))],
            groups=[str(label) for label in labels],
            numbers=labels,
            training=training,
            digests=[digest_arrays(image) for image in images],
            classes=tuple(str(digit) for digit in range(10)),
            provenance={"digits": settings.model_dump(mode="json"), "seed": seed},
        )
