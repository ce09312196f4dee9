"""Stage gaussian: fit the patch Gaussian on the training items."""

import argparse
from typing import Annotated

from pydantic import Field

from preddiff.datasets.slab import Slab
from preddiff.samplers.gaussian_store import GaussianSettings, fit_gaussian
from preddiff.settings.base import Positive, Settings
from preddiff.settings.options import add_path, add_seed, add_settings, add_threads, read_settings


class GaussianOfPatches(Settings):
    """A patch Gaussian, and how it is fitted."""

    l: Positive = Field(7, description="side of the surroundings, in voxels")
    gaussian: GaussianSettings = Field(
        default_factory=GaussianSettings, description="settings of the fit"
    )
    slab: Slab = Field(
        default_factory=Slab, description="the classifier's input; used with grid only"
    )
    margin: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="how far beyond the slab windows may be centred: half their side, or 0 if they "
        "lie inside it; default: half of l; used with grid only",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    add_path(parser, "--data", "data store")
    add_settings(parser, GaussianOfPatches)
    add_path(parser, "--out", "Gaussian store to write")
    add_seed(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fit and store the Gaussian."""
    settings = read_settings(arguments, GaussianOfPatches)
    fit_gaussian(
        arguments.data,
        settings.gaussian,
        settings.l,
        settings.slab,
        arguments.seed,
        arguments.threads,
        arguments.out,
        settings.margin,
    )
