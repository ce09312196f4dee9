"""The command line: one subcommand per stage, which the workflow's rules call and people can."""

import argparse
import ast
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from preddiff.errors import InputError
from preddiff.settings.options import add_options, read_options
from preddiff.settings.study import (
    Columns,
    DigitSettings,
    DigitTraining,
    FigureSettings,
    GaussianSettings,
    Geometry,
    ImageFigureSettings,
    ImageSet,
    Logistic,
    ModuleSettings,
    Oasis,
    Phantom,
    SamplerSettings,
    Slab,
    TargetSettings,
    TorchvisionSettings,
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


def _prepare_images(a: argparse.Namespace) -> None:
    from preddiff.stages.prepare_images import prepare_images

    settings, geometry = read_options(a, ImageSet), read_options(a, Geometry)
    prepare_images(settings, geometry, a.seed, a.threads, a.out, a.report)


def _prepare_digits(a: argparse.Namespace) -> None:
    from preddiff.stages.prepare_images import prepare_digits

    prepare_digits(read_options(a, DigitSettings), a.seed, a.out)


def _fetch_weights(a: argparse.Namespace) -> None:
    from preddiff.stages.network import fetch_weights

    fetch_weights(a.name, a.weights, a.out)


def _torchvision(a: argparse.Namespace) -> None:
    from preddiff.stages.network import store_torchvision

    settings = read_options(a, TorchvisionSettings)
    store_torchvision(settings, a.state_dict or Path(settings.weights), a.out)


def _module(a: argparse.Namespace) -> None:
    from preddiff.stages.network import store_module

    store_module(read_options(a, ModuleSettings), a.out)


def _train_digits(a: argparse.Namespace) -> None:
    from preddiff.stages.network import train_digits

    train_digits(a.data, read_options(a, DigitTraining), a.seed, a.threads, a.out)


def _layers(a: argparse.Namespace) -> None:
    from preddiff.stages.network import describe_layers

    print(describe_layers(a.classifier))


def _predict(a: argparse.Namespace) -> None:
    from preddiff.stages.predict import predict

    predict(a.data, a.classifier, a.device, a.threads, a.out)


def _open(a: argparse.Namespace) -> None:
    from preddiff.stages.open import open_expectations
    from preddiff.storage.inputs import Inputs

    inputs = Inputs(a.data, a.classifier, a.gaussian, a.donors, a.predictions)
    sampler, settings = read_options(a, SamplerSettings), read_options(a, WindowSettings)
    changed = open_expectations(inputs, sampler, settings, a.seed, a.out)
    if changed and all(line.startswith("items: ") for line in changed):
        print(f"{a.out}: other items; those that are as before are kept", file=sys.stderr)
    elif changed:
        print(f"{a.out}: replaced, since this changed:", *changed, sep="\n  ", file=sys.stderr)
    if a.marker is not None:
        a.marker.parent.mkdir(parents=True, exist_ok=True)
        a.marker.touch()


def _explain(a: argparse.Namespace) -> None:
    from preddiff.stages.explain import explain

    explain(a.store, a.first, a.last, a.marker, threads=a.threads, batch_size=a.batch_size or None)


def _sensitivity(a: argparse.Namespace) -> None:
    from preddiff.stages.sensitivity import compute_sensitivity
    from preddiff.storage.inputs import Inputs

    inputs = Inputs(a.data, a.classifier, predictions=a.predictions)
    compute_sensitivity(inputs, read_options(a, TargetSettings), a.device, a.threads, a.out)


def _deletion(a: argparse.Namespace) -> None:
    from preddiff.stages.deletion import delete_and_insert

    delete_and_insert(
        a.stores,
        a.data,
        a.classifier,
        a.gaussian,
        k=a.k,
        random_orders=a.random_orders,
        seed=a.seed,
        device=a.device,
        threads=a.threads,
        out=a.out,
    )


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


def _image_figure(a: argparse.Namespace) -> None:
    from preddiff.stages.image_figures import draw_images

    draw_images(a.stores, read_options(a, ImageFigureSettings), a.out)


Command = Callable[[argparse.Namespace], None]


# Stages that bring their own options: modules of preddiff.stages with `add_arguments` and `run`.
_MODULES = ("status", "verify", "info", "prune")


def _add_module(
    stages: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, load: bool
) -> None:
    """Add a stage that is a module: its help, and its options if it is to be loaded."""
    module = f"preddiff.stages.{name}"
    text = _first_line(module)
    added = stages.add_parser(
        name, help=text[0].lower() + text[1:].removesuffix("."), description=text
    )
    if load:
        stage = import_module(module)
        stage.add_arguments(added)
        added.set_defaults(run=stage.run)


def _first_line(module: str) -> str:
    """First line of a module's docstring, without importing what the module imports."""
    found = find_spec(module)
    assert found is not None and found.origin is not None
    text = ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8")))
    assert text is not None
    return text.splitlines()[0]


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of all subcommands.

    Parameters
    ----------
    command : str, optional
        The subcommand that is to run. Modules of other ones are not imported, which takes seconds.
    """
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

    def device(p: argparse.ArgumentParser) -> None:
        p.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            default="auto",
            help="where networks run; auto takes a GPU where there is one (default: auto)",
        )

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

    p = stage("prepare-images", _prepare_images, "read image files and write them as a Zarr store")
    add_options(p, ImageSet)
    add_options(p, Geometry)
    option(p, "--out", "data store to write")
    option(p, "--report", "table to write of images that were converted or left out")
    seed(p)
    threads(p)

    p = stage("prepare-digits", _prepare_digits, "write scikit-learn's digits as a Zarr store")
    add_options(p, DigitSettings)
    option(p, "--out", "data store to write")
    seed(p)

    p = stage("train", _train, "cross-validate and fit the L2 logistic regression")
    option(p, "--data", "data store")
    add_options(p, Logistic)
    option(p, "--out", "folder for the classifier")
    seed(p)

    p = stage("train-digits", _train_digits, "train a small network on the digits")
    option(p, "--data", "data store of digits")
    add_options(p, DigitTraining)
    option(p, "--out", "folder for the classifier")
    seed(p)
    threads(p)

    p = stage("fetch-weights", _fetch_weights, "fetch torchvision's weights (needs network)")
    p.add_argument("name", help="torchvision's name of the network, such as alexnet")
    p.add_argument("--weights", default="DEFAULT", help="torchvision's name (default: DEFAULT)")
    option(p, "--out", "file to write (.safetensors)")

    p = stage("torchvision", _torchvision, "store a network of torchvision as a classifier")
    add_options(p, TorchvisionSettings)
    option(p, "--state-dict", "weights that fetch-weights wrote; else `weights`", required=False)
    option(p, "--out", "folder for the classifier")

    p = stage("module", _module, "store a network of your own as a classifier")
    add_options(p, ModuleSettings)
    option(p, "--out", "folder for the classifier")

    p = stage("layers", _layers, "list the layers of a network that can be explained")
    p.add_argument("classifier", help="folder of a classifier, or torchvision's name of a network")

    p = stage("predict", _predict, "classify all items with a network")
    option(p, "--data", "data store")
    option(p, "--classifier", "folder of the classifier")
    device(p)
    threads(p)
    option(p, "--out", "table to write (.tsv); the accuracy is written beside it (.json)")

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
    option(p, "--donors", "data store that marginal and grey samplers learn from", required=False)
    option(p, "--predictions", "table of predict, for true and top classes", required=False)
    add_options(p, SamplerSettings)
    add_options(p, WindowSettings)
    option(p, "--out", "expectation store; kept if it was made by the same settings")
    option(p, "--marker", "file to touch when the store is ready", required=False)
    seed(p)

    p = stage("explain", _explain, "compute the missing expectations of some items")
    p.add_argument("store", type=Path, help="expectation store that `preddiff open` made")
    p.add_argument("--first", type=int, default=0, help="first item, from 0 (default: 0)")
    p.add_argument("--last", type=int, help="item to stop before (default: all)")
    option(p, "--marker", "file to write when the items are complete", required=False)
    threads(p)
    p.add_argument(
        "--batch-size", type=int, help="inputs per forward pass (default: as suits the device)"
    )

    p = stage("sensitivity", _sensitivity, "compute sensitivity maps of a network")
    option(p, "--data", "data store")
    option(p, "--classifier", "folder of the classifier")
    option(p, "--predictions", "table of predict, for true and top classes", required=False)
    add_options(p, TargetSettings)
    device(p)
    threads(p)
    option(p, "--out", "relevance store to write")

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

    p = stage("deletion", _deletion, "follow a class while windows are deleted and inserted")
    p.add_argument("stores", type=Path, nargs="+", help="relevance stores of one network")
    option(p, "--data", "data store")
    option(p, "--classifier", "folder of the classifier")
    option(p, "--gaussian", "Gaussian store that windows are filled from", required=False)
    p.add_argument("--k", type=int, required=True, help="side of the windows that are filled")
    p.add_argument("--random-orders", type=int, default=5, help="to compare with (default: 5)")
    device(p)
    threads(p)
    seed(p)
    option(p, "--out", "table to write (.tsv); a summary and the curves are written beside it")

    p = stage("image-figure", _image_figure, "draw a figure of images after the paper's")
    p.add_argument("stores", type=Path, nargs="+", help="relevance stores")
    add_options(p, ImageFigureSettings)
    option(p, "--out", "picture to write (.png; a .pdf is written beside it)")

    p = stage("figure", _figure, "draw a figure of volumes after the paper's")
    p.add_argument("stores", type=Path, nargs="+", help="relevance stores")
    option(p, "--classifier", "folder of the classifier")
    option(p, "--data", "data store")
    add_options(p, FigureSettings)
    option(p, "--out", "picture to write (.png; a .pdf is written beside it)")

    for name in _MODULES:
        _add_module(stages, name, load=name == command)
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; exits with status 2 and a plain message on errors that a user can mend."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser(argv[0] if argv else None).parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"preddiff: error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read the output has seen enough: `preddiff layers ... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A full disk, a folder that may not be written to, ...; not all of them name the file.
        where = error.filename or getattr(arguments, "out", None)
        where = where or getattr(arguments, "store", "standard output")
        reason = error.strerror or error
        print(f"preddiff: error: {where}: {reason}; mend it and run again", file=sys.stderr)
        sys.exit(2)
