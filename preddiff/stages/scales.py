"""Command scales: list how much of windows of several sides their surroundings foretell."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from preddiff.datasets.items import Items
from preddiff.errors import InputError
from preddiff.evaluation.scales import DIGITS, table_of_scales
from preddiff.figures.overlay import save
from preddiff.figures.scales import draw_scales
from preddiff.progress import progress
from preddiff.samplers.foretold import AnyGaussian, Foretold, foretold, percent_of
from preddiff.samplers.gaussian_store import GaussianSettings, fit_everywhere, load_gaussian
from preddiff.settings.base import Positive, Settings
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings
from preddiff.storage.writers import write_tsv

# Sides of windows that are listed by default, where their surroundings fit.
_SIDES = (1, 2, 3, 5, 7, 10)


class Scales(Settings):
    """Windows and their surroundings, and the Gaussian that is fitted (with --data)."""

    k: list[Positive] | None = Field(
        None,
        description="sides of windows, in voxels; default: those of 1 2 3 5 7 10 whose "
        "surroundings fit",
        min_length=1,
    )
    margin: Positive = Field(
        2, description="voxels of the surroundings on each side of a window: l = k + 2 margin"
    )
    gaussian: GaussianSettings = Field(
        default_factory=GaussianSettings, description="settings of the fit"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.epilog = (
        "Conditional maps show what cannot be foretold from the surroundings. On smooth items, "
        "small windows are foretold almost exactly, and maps show next to nothing: choose a side "
        "k whose share is below 99%. The share follows from the patch Gaussian alone, without a "
        "classifier, for windows away from the borders. The table has a row per side: the share "
        "of a window's variance that is foretold, and the share that remains; the standard "
        "deviation of a voxel (sd, in units of the items), and what remains of it (sd_remaining); "
        "and the least and the largest share that remains among 32 cells of a Gaussian by location."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="data store: one Gaussian is fitted on its training items, with the surroundings of "
        "the largest side; smaller ones are parts of it",
    )
    source.add_argument(
        "--gaussian",
        type=Path,
        metavar="PATH",
        help="Gaussian store of `preddiff gaussian`, for all locations or by location, instead of "
        "fitting one",
    )
    # A Gaussian by location is fitted for a classifier's slab, by `preddiff gaussian`.
    add_settings(parser, Scales, "grid", "cell_patches", "strength")
    add_path(parser, "--out", "table to write (.tsv); a figure (.png, .pdf) is written beside it")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print and write the table, and draw the figure."""
    settings = read_settings(arguments, Scales)
    if arguments.out.suffix == ".png":
        raise InputError(f"--out {arguments.out}: name the table (.tsv); the figure is put beside")
    if arguments.data is not None:
        found = scales_of_data(arguments.data, settings, arguments.seed, arguments.threads)
    else:
        fit = settings.gaussian.model_dump(exclude_defaults=True)
        if fit:
            raise InputError(
                f"--gaussian: the Gaussian of a store is fitted already; remove {', '.join(fit)}, "
                "or fit one on a data store (--data)"
            )
        found = scales_of_gaussian(arguments.gaussian, settings)
    write_tsv(table_of_scales(found), arguments.out, digits=DIGITS)
    figure = draw_scales(found, (arguments.data or arguments.gaussian).stem)
    save(figure, arguments.out.with_suffix(".png"))
    print("  k   l    foretold   remains  sd remaining / sd")
    for one in found:
        deviation = one.share_remaining**0.5
        print(
            f"{one.k:3} {one.l:3} {percent_of(one.share_remaining):>11} "
            f"{one.share_remaining:9.2g} {deviation:18.2g}"
        )


def scales_of_data(data: Path, settings: Scales, seed: int, threads: int) -> list[Foretold]:
    """Fit one Gaussian on the training items of a data store, and compute the share for each side.

    Raises
    ------
    InputError
        If there are no training items, or the surroundings do not fit into them.
    """
    items = Items(data)
    if settings.gaussian.grid is not None:
        raise InputError(
            "grid: fit the Gaussian by location by `preddiff gaussian`, and give its store by "
            "--gaussian instead of --data"
        )
    space = " x ".join(map(str, items.space))
    sides = sides_that_fit(settings, min(items.space), f"items of {data} have {space} voxels")
    l = sides[-1] + 2 * settings.margin
    gaussian, _ = fit_everywhere(items, settings.gaussian, l, seed, threads)
    return _foretold(gaussian, sides, settings.margin)


def scales_of_gaussian(path: Path, settings: Scales) -> list[Foretold]:
    """Compute the share for each side from a Gaussian store.

    Raises
    ------
    InputError
        If there is no such store, or the surroundings are larger than its outer patches.
    """
    gaussian = load_gaussian(path)
    sides = sides_that_fit(settings, gaussian.l, f"{path} was fitted for l = {gaussian.l}")
    return _foretold(gaussian, sides, settings.margin)


def _foretold(gaussian: AnyGaussian, sides: Sequence[int], margin: int) -> list[Foretold]:
    shown = progress(sides, desc="scales", unit="side")
    return [foretold(gaussian, k, k + 2 * margin) for k in shown]


def sides_that_fit(settings: Scales, largest: int, reason: str) -> list[int]:
    """Return the sides of windows that are wanted, in ascending order.

    Parameters
    ----------
    settings : Scales
    largest : int
        Largest side of surroundings that is possible.
    reason : str
        Why it is, for messages.

    Raises
    ------
    InputError
        If the surroundings of a side that is wanted, or of all, are larger.
    """
    most = largest - 2 * settings.margin
    sides = sorted(set(settings.k or [k for k in _SIDES if k <= most]))
    if not sides or sides[-1] > most:
        k = max(settings.k or _SIDES[:1])
        advice = f"choose k up to {most}" if most >= 1 else "choose a smaller margin"
        raise InputError(
            f"k = {k} with a margin of {settings.margin} needs surroundings of side "
            f"l = {k + 2 * settings.margin}, but {reason}: {advice}"
        )
    return sides
