"""Stage deletion: follow a class while windows are deleted and inserted."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.classifiers.held_out import HELD_OUT
from preddiff.classifiers.network import Network
from preddiff.classifiers.readout import probabilities
from preddiff.classifiers.stored import load_network
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.evaluation.deletion import (
    RANDOM,
    Curves,
    area_table,
    compare_curves,
    deletion_and_insertion,
    first_class_target,
    mean_curves,
    mean_of_random_orders,
    order_of_windows,
)
from preddiff.progress import progress
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import seed_of
from preddiff.samplers.gaussian import LocatedPatchGaussian
from preddiff.samplers.gaussian_store import load_gaussian, range_of
from preddiff.samplers.grey import Grey
from preddiff.settings.options import (
    add_device,
    add_path,
    add_seed,
    add_threads,
    whole_number,
)
from preddiff.storage.maps import open_relevance
from preddiff.storage.stores import PROVENANCE, array, attributes
from preddiff.storage.writers import beside, write_tsv
from preddiff.windows import FloatArray, IntArray, Surroundings, Windows

# Takes an order of windows to the curves of an item.
Follow = Callable[[IntArray], FloatArray]

# Significant digits of the tables.
_DIGITS = 6
# Points of a curve, evenly over the share of windows.
_STEPS = 50
_BATCH = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("stores", type=Path, nargs="+", help="relevance stores of one network")
    add_path(parser, "--data", "data store")
    add_path(parser, "--classifier", "folder of the classifier")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="follow each training item by the network of its fold, as maps of held_out explain it",
    )
    add_path(parser, "--gaussian", "Gaussian store that windows are filled from", required=False)
    parser.add_argument(
        "--k", type=whole_number(1), required=True, help="side of the windows that are filled"
    )
    parser.add_argument(
        "--random-orders",
        type=whole_number(1),
        default=5,
        help="random orders to compare with (default: 5)",
    )
    add_device(parser)
    add_threads(parser)
    add_seed(parser)
    add_path(parser, "--out", "table to write (.tsv)")
    add_path(
        parser,
        "--summary",
        "comparison of maps to write; default: beside --out",
        required=False,
    )
    add_path(parser, "--curves", "table of curves to write; default: beside --out", required=False)


def run(arguments: argparse.Namespace) -> None:
    """Compute the curves."""
    delete_and_insert(
        arguments.stores,
        arguments.data,
        arguments.classifier,
        arguments.gaussian,
        held_out=arguments.held_out,
        k=arguments.k,
        random_orders=arguments.random_orders,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
        out=arguments.out,
        summary=arguments.summary or beside(arguments.out, "summary"),
        curves=arguments.curves or beside(arguments.out, "curves"),
    )


def delete_and_insert(
    stores: Sequence[Path],
    data: Path,
    classifier_folder: Path,
    gaussian: Path | None,
    *,
    held_out: bool = False,
    k: int,
    random_orders: int,
    seed: int,
    device: str,
    threads: int,
    out: Path,
    summary: Path,
    curves: Path,
) -> None:
    """Follow a class's probability while windows are filled in order of their relevance.

    The windows tile the image and are filled by their conditional mean given their surroundings in
    the intact image, so that all orders lead from the same image to the same filled image. The
    class is that of an explanation's first target that has one; other targets are not used. Random
    orders are averaged.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores of one network and one dataset; a map is named as its store.
    data, classifier_folder : Path
    gaussian : Path, optional
        Windows are filled by the training items' mean if there is none.
    held_out : bool
        Whether the maps are of networks of folds, by which their items are followed.
    k : int
        Side of the windows.
    random_orders, seed : int
    device, threads
    out, summary, curves : Path
        Tables to write (.tsv): the areas under the curves, one row per map and item; the maps
        compared with the random order; the mean curves.

    Raises
    ------
    InputError
        If no explanation is of a class, two maps would have the same name, or some are of other
        networks.
    """
    _require_names(stores)
    use_cores(threads)
    _require_models(stores, held_out)
    items = Items(data)
    network = load_network(classifier_folder, items, by_fold=held_out)
    where = device_of(device)
    maps = [found for path in stores if (found := _Map.of(path)) is not None]
    if not maps:
        raise InputError("none of the explanations is of a class, so there is no curve to follow")
    read = _reader(items, gaussian, Windows(items.space, k, k, network.slab))

    def follow(item: str, number: int) -> Follow:
        classify, (image, filled) = _classify(network.model_of(item), number, where), read(item)
        return partial(
            deletion_and_insertion, classify, image, filled, k=k, steps=_STEPS, batch_size=_BATCH
        )

    followed = list(_all_curves(maps, follow, k, random_orders, seed))
    table = area_table(followed)
    write_tsv(table, out, digits=_DIGITS)
    write_tsv(compare_curves(table, RANDOM), summary, digits=_DIGITS)
    write_tsv(mean_curves(followed), curves, digits=_DIGITS)


def _all_curves(
    maps: Sequence["_Map"],
    follow: Callable[[str, int], Follow],
    k: int,
    random_orders: int,
    seed: int,
) -> Iterator[Curves]:
    """Curves of every map and item, and once for each item and class those of random orders."""
    random_done: set[tuple[str, int]] = set()
    with progress(total=sum(len(one.items) for one in maps), desc="deletion", unit="map") as bar:
        for one in maps:
            for row, (item, number) in enumerate(zip(one.items, one.classes, strict=True)):
                curves_of = follow(item, number)
                order = order_of_windows(one.relevance(row), k)
                yield Curves(one.name, item, number, curves_of(order))
                if (item, number) not in random_done:
                    random_done.add((item, number))
                    generator = np.random.default_rng(seed_of(seed, item))
                    mean = mean_of_random_orders(curves_of, len(order), random_orders, generator)
                    yield Curves(RANDOM, item, number, mean)
                bar.update(1)


def _require_names(stores: Sequence[Path]) -> None:
    names = [RANDOM, *(path.stem for path in stores)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"two maps would be called '{twice}' in the tables: give stores of other names"
        )


def _require_models(stores: Sequence[Path], held_out: bool) -> None:
    """Check that maps are of the networks by which items are followed."""
    for path in stores:
        if bool(attributes(open_relevance(path))[PROVENANCE].get(HELD_OUT)) != held_out:
            raise InputError(
                f"{path}: its maps are of {'one network' if held_out else 'networks of folds'}: "
                f"{'leave out' if held_out else 'give'} --held-out, and give only stores of the "
                "same networks"
            )


class _Map:
    """The first target of a class in a relevance store."""

    def __init__(self, path: Path, target: int) -> None:
        group = open_relevance(path)
        self.name = path.stem
        self.items = [str(name) for name in np.asarray(array(group, "item")[:])]
        self.classes = [int(n) for n in np.asarray(array(group, "class_number")[:])[:, target]]
        self._relevance, self._target = array(group, "relevance"), target

    def relevance(self, row: int) -> NDArray[np.float32]:
        """Relevance of an item."""
        return np.asarray(self._relevance[row, self._target])

    @classmethod
    def of(cls, path: Path) -> "_Map | None":
        target = first_class_target(np.asarray(array(open_relevance(path), "class_number")[:]))
        return None if target is None else cls(path, target)


def _reader(
    items: Items, gaussian: Path | None, windows: Windows
) -> Callable[[str], tuple[Tensor, Tensor]]:
    """Return a function that reads an item and fills it: both as the network sees them."""
    sampler: Grey | Conditional
    if gaussian is None:
        sampler, part = Grey(items.training_mean(windows.region)), windows.region
    else:
        fitted = load_gaussian(gaussian)
        part = Surroundings(windows, fitted.l).region
        if isinstance(fitted, LocatedPatchGaussian):
            fitted = fitted.at(tuple(along.start for along in part))
        sampler = Conditional(fitted, range_of(gaussian))
    inside = windows.cropped(part)

    def read(item: str) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(items.read([items.number(item)], part)[0])
        return inside.cut(x), inside.cut(sampler.fill(x, inside))

    return read


def _classify(network: Network, number: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    @torch.inference_mode()
    def classify(x: Tensor) -> Tensor:
        logits = network.logits(x.to(device)).double()
        return probabilities(logits)[:, number].cpu()

    return classify
