"""Stage figure: draw a figure from relevance stores."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from preddiff.figures.base import FIGURES, FigureSettings
from preddiff.figures.image_maps import ImageMaps
from preddiff.figures.overlay import save
from preddiff.figures.volume_maps import VolumeMaps
from preddiff.settings.options import add_path, add_settings, read_kind

# Readers of maps, by the dimensions of the items.
_MAPS = {2: ImageMaps, 3: VolumeMaps}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("stores", type=Path, nargs="+", help="relevance stores")
    add_settings(parser, FIGURES, "explanations")
    add_path(parser, "--out", "image to write (.png); a .pdf is written beside it")


def run(arguments: argparse.Namespace) -> None:
    """Draw the figure."""
    names = [path.stem for path in arguments.stores]
    settings = read_kind(arguments, FIGURES, explanations=names)
    draw(arguments.stores, settings, arguments.out)


def draw(stores: Sequence[Path], figure: FigureSettings, out: Path) -> None:
    """Draw a figure, and write it as PNG and PDF.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores, which refer to their items and classifiers.
    figure : FigureSettings
    out : Path
        File to write, with suffix .png; the PDF is written beside it.

    Raises
    ------
    InputError
        If an item, a target or a slice is not in the stores.
    """
    read = _MAPS[figure.dimensions]
    save(figure.draw([read(path) for path in stores]), out)
