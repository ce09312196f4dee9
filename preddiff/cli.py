"""The command line: one subcommand per stage, which the workflow's rules call and people can."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from preddiff.errors import InputError
from preddiff.options import add_options, read_options
from preddiff.settings import (
    Columns,
    FigureSettings,
    GaussianSettings,
    Logistic,
    Oasis,
    Phantom,
    Sampler,
    Slab,
    WindowSettings,
)

# Stages are imported by the commands that run them: numerical libraries take seconds to load.


def _phantom(a: argparse.Namespace) -> None:
    from preddiff.datasets.phantom import write_phantom

    settings = read_options(a, Phantom)
    write_phantom(a.out, **settings.model_dump(), seed=a.seed, processes=a.threads)


def _fetch_oasis(a: argparse.Namespace) -> None:
    from preddiff.datasets.oasis import write_oasis

    write_oasis(a.out, **read_options(a, Oasis).model_dump())


def _prepare(a: argparse.Namespace) -> None:
    from preddiff.stages.prepare import prepare

    prepare(a.table, read_options(a, Columns), a.out)


def _train(a: argparse.Namespace) -> None:
    from preddiff.stages.train import train

    train(a.data, read_options(a, Logistic), a.seed, a.out)


def _gaussian(a: argparse.Namespace) -> None:
    from preddiff.stages.gaussian import fit_gaussian

    settings, slab = read_options(a, GaussianSettings), read_options(a, Slab)
    fit_gaussian(a.data, settings, a.l, slab, a.seed, a.threads, a.out)


def _open(a: argparse.Namespace) -> None:
    from preddiff.stages.open import open_expectations

    sampler, settings = read_options(a, Sampler), read_options(a, WindowSettings)
    changed = open_expectations(a.data, a.classifier, a.gaussian, sampler, settings, a.seed, a.out)
    if changed:
        print(f"{a.out}: started anew, since this changed:", *changed, sep="\n  ", file=sys.stderr)
    if a.marker is not None:
        a.marker.parent.mkdir(parents=True, exist_ok=True)
        a.marker.touch()


def _explain(a: argparse.Namespace) -> None:
    from preddiff.stages.explain import explain

    explain(a.store, a.first, a.last, a.marker)


def _relevance(a: argparse.Namespace) -> None:
    from preddiff.stages.relevance import compute_relevance

    compute_relevance(a.store, a.out)


def _nifti(a: argparse.Namespace) -> None:
    from preddiff.stages.nifti import write_niftis

    write_niftis(a.store, a.data, a.out)


def _localise(a: argparse.Namespace) -> None:
    from preddiff.stages.localise import localise

    localise(a.stores, a.classifier, a.data, a.out)


def _figure(a: argparse.Namespace) -> None:
    from preddiff.stages.figures import draw

    draw(a.stores, a.classifier, a.data, read_options(a, FigureSettings), a.out)


def _info(a: argparse.Namespace) -> None:
    from preddiff.stages.info import describe

    print(describe(a.store))


Command = Callable[[argparse.Namespace], None]


def parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    top = argparse.ArgumentParser(
        prog="preddiff",
        description="Prediction difference analysis (Zintgraf et al., ICLR 2017): which voxels of "
        "an input speak for a classifier's decision, and which against. The subcommands are the "
        "stages of a study, in their order; `snakemake` runs them all.",
        epilog="A study's configuration file is documented in config/README.md.",
    )
    stages = top.add_subparsers(title="stages", required=True, metavar="STAGE")

    def stage(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        added = stages.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(run=run)
        return added

    def option(p: argparse.ArgumentParser, name: str, text: str, required: bool = True) -> None:
        p.add_argument(name, type=Path, required=required, metavar="PATH", help=text)

    def seed(p: argparse.ArgumentParser) -> None:
        p.add_argument("--seed", type=int, default=0, help="seed of what is random (default: 0)")

    def threads(p: argparse.ArgumentParser) -> None:
        p.add_argument("--threads", type=int, default=1, help="cores to use (default: 1)")

    p = stage("phantom", _phantom, "write a cohort whose truth is known, as NIfTI files")
    add_options(p, Phantom)
    option(p, "--out", "folder for the cohort")
    seed(p)
    threads(p)

    p = stage("fetch-oasis", _fetch_oasis, "fetch the OASIS cohort (needs network)")
    add_options(p, Oasis)
    option(p, "--out", "folder for the cohort's table")

    p = stage("prepare", _prepare, "validate a cohort and write it as a Zarr store")
    p.add_argument("table", type=Path, help="table of subjects, tab- or comma-separated")
    add_options(p, Columns)
    option(p, "--out", "data store to write")

    p = stage("train", _train, "cross-validate and fit the L2 logistic regression")
    option(p, "--data", "data store")
    add_options(p, Logistic)
    option(p, "--out", "folder for the classifier")
    seed(p)

    p = stage("gaussian", _gaussian, "fit the patch Gaussian on the training items")
    option(p, "--data", "data store")
    p.add_argument("--l", type=int, default=7, help="side of the surroundings (default: 7)")
    add_options(p, GaussianSettings)
    add_options(p, Slab)
    option(p, "--out", "Gaussian store to write")
    seed(p)
    threads(p)

    p = stage("open", _open, "make the empty expectation store of an explanation")
    option(p, "--data", "data store")
    option(p, "--classifier", "folder of the classifier")
    option(p, "--gaussian", "Gaussian store, for conditional samplers", required=False)
    add_options(p, Sampler)
    add_options(p, WindowSettings)
    option(p, "--out", "expectation store; kept if it was made by the same settings")
    option(p, "--marker", "file to touch when the store is ready", required=False)
    seed(p)

    p = stage("explain", _explain, "compute the missing expectations of some items")
    p.add_argument("store", type=Path, help="expectation store that `preddiff open` made")
    p.add_argument("--first", type=int, default=0, help="first item, from 0 (default: 0)")
    p.add_argument("--last", type=int, help="item to stop before (default: all)")
    option(p, "--marker", "file to write when the items are complete", required=False)

    p = stage("relevance", _relevance, "turn expectations into evidence and relevance")
    p.add_argument("store", type=Path, help="complete expectation store")
    option(p, "--out", "relevance store to write")

    p = stage("nifti", _nifti, "write relevance as one NIfTI per item")
    p.add_argument("store", type=Path, help="relevance store")
    option(p, "--data", "data store")
    option(p, "--out", "folder for the NIfTI files")

    p = stage("localise", _localise, "score how well maps find the planted sites")
    p.add_argument("stores", type=Path, nargs="+", help="relevance stores of one classifier")
    option(p, "--classifier", "folder of the classifier, whose weights are scored too")
    option(p, "--data", "data store with truth masks")
    option(p, "--out", "table to write (.tsv); a summary is written beside it")

    p = stage("figure", _figure, "draw a figure after the paper's")
    p.add_argument("stores", type=Path, nargs="+", help="relevance stores")
    option(p, "--classifier", "folder of the classifier")
    option(p, "--data", "data store")
    add_options(p, FigureSettings)
    option(p, "--out", "picture to write (.png; a .pdf is written beside it)")

    p = stage("info", _info, "print what a store holds, how much is done, and its provenance")
    p.add_argument("store", type=Path, help="any store of a study")
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; exits with status 2 and a plain message on errors that a user can mend."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except InputError as error:
        print(f"preddiff: error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # A full disk, a folder that may not be written to, ...; not all of them name the file.
        where = error.filename or getattr(arguments, "out", None) or arguments.store
        reason = error.strerror or error
        print(f"preddiff: error: {where}: {reason}; mend it and run again", file=sys.stderr)
        sys.exit(2)
