"""Small expectation stores, of a linear classifier and a network, and processes that fill them."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from preddiff.cli import main
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.levels import LevelStore
from tests.study.cohort import write_cohort
from tests.study.photographs import SIDE, write_photographs

# Children are forked from a process that has imported what they need, and so start at once.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["preddiff.stages.explain", "tests.study.small_store"])

# A block or level that is about to be written: its items and its number.
Written = tuple[tuple[int, ...], int]


def prepare(folder: Path) -> None:
    """Write the data store and the classifier that a store is made from."""
    table = write_cohort(folder / "cohort")
    run("prepare", table, "--out", folder / "data.zarr")
    train = ("train", "--data", folder / "data.zarr", "--slices", 4, 9, "--folds", 3)
    run(*train, "--out", folder / "classifier")


def open_store(folder: Path, out: Path, *settings: object) -> None:
    command = ("open", "--data", folder / "data.zarr", "--classifier", folder / "classifier")
    usual = ("--kind", "marginal", "--k", 2, "--block", 40, "--estimator", "samples")
    run(*command, *usual, *settings, "--out", out)


def prepare_network(folder: Path) -> None:
    """Write the images and the network that a store of levels is made from."""
    photographs = write_photographs(folder / "photographs", 3, faults=False)
    images = ("--images", photographs / "sheet.tsv", "--resize", SIDE, "--crop", SIDE)
    out = ("--out", folder / "data.zarr", "--report", folder / "report.tsv")
    run("prepare-images", *images, "--classes", photographs / "classes.txt", *out)
    network = ("--module", f"{photographs / 'network.py'}:network", "--training-size", 1000)
    geometry = ("--resize", SIDE, "--crop", SIDE, "--mean", *[0.3] * 3, "--std", *[0.2] * 3)
    classes = ("--classes", photographs / "classes.txt")
    run("module", *network, *geometry, *classes, "--out", folder / "classifier")


def open_levels(folder: Path, out: Path, accuracy: float, *settings: object) -> None:
    """Open a store for the maps of two classes."""
    command = ("open", "--data", folder / "data.zarr", "--classifier", folder / "classifier")
    targets = ("--targets", "probability:red", "logit:blue")
    usual = ("--kind", "marginal", "--k", 4, *targets, "--accuracy", accuracy)
    run(*command, *usual, *settings, "--out", out)


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


class Explaining:
    """A process that explains items of a store, and tells each block or level before it is written.

    With `kill_before`, it kills itself right before it puts that file of the store in its place,
    counted from 1: the file is written under a temporary name then.
    """

    def __init__(
        self,
        store: Path,
        log: Path,
        first: int = 0,
        last: int | None = None,
        kill_before: int | None = None,
    ) -> None:
        self.log = log
        self._told, tell = _CONTEXT.Pipe(duplex=False)
        self.process: ForkServerProcess = _CONTEXT.Process(
            target=_explain, args=(store, first, last, log, tell, kill_before)
        )
        self.process.start()
        tell.close()

    def written(self) -> Iterator[Written]:
        """Blocks, as they come, until the process ends."""
        try:
            while True:
                yield self._told.recv()
        except EOFError:
            self.process.join()

    def kill(self) -> list[Written]:
        """Kill the process at once; what it told before and nobody has read yet."""
        self.process.kill()
        return list(self.written())


def _explain(
    store: Path,
    first: int,
    last: int | None,
    log: Path,
    tell: Connection,
    kill_before: int | None,
) -> None:
    write, replace, replaced = ExpectationStore.write, Path.replace, itertools.count(1)

    def replacing(self, target):
        # Zarr replaces a chunk's file by the temporary one that it has written.
        if self.suffix == ".partial" and next(replaced) == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = replacing

    def telling(self, items, block, expectations):
        tell.send((tuple(items), block.number))
        write(self, items, block, expectations)

    ExpectationStore.write = telling
    write_level = LevelStore.write

    def telling_levels(self, item, number, *values):
        tell.send(((item,), number))
        write_level(self, item, number, *values)

    LevelStore.write = telling_levels
    stop = [] if last is None else ["--last", last]
    marker = store.with_suffix(".done") / f"items-{first}-{last}.json"
    with log.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        run("explain", store, "--first", first, *stop, "--marker", marker)
