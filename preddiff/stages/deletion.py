"""Stage deletion: deletion and insertion curves of the explanations of a network's items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.classifiers.network import Network
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.evaluation.deletion import (
    MEASURES,
    area_under,
    compare_curves,
    curve,
    order_of_windows,
    random_order,
)
from preddiff.progress import progress
from preddiff.samplers.base import seed_of
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.grey import Grey
from preddiff.stages.gaussian import load_gaussian, range_of
from preddiff.storage.files import write_atomically
from preddiff.storage.stores import array, open_store
from preddiff.windows import FloatArray, IntArray, Windows

RANDOM = "random"
# Points of a curve, evenly over the share of windows.
_STEPS = 50
_BATCH = 32


def delete_and_insert(
    stores: Sequence[Path],
    data: Path,
    classifier_folder: Path,
    gaussian: Path | None,
    *,
    k: int,
    random_orders: int,
    seed: int,
    device: str,
    threads: int,
    out: Path,
) -> None:
    """Follow a class's probability while windows are filled in order of their relevance.

    The windows tile the image and are filled by their conditional mean given their surroundings in
    the intact image, so that all orders lead from the same image to the same filled image. The
    class is that of an explanation's first target that has one; other targets are not used. Random
    orders are averaged.

    Writes one row per map and item; beside it `<name>-summary.tsv`, maps against the random
    order, and `<name>-curves.tsv`, the mean curves.

    Parameters
    ----------
    stores : sequence of Path
        Relevance stores of one network and one dataset; a map is named as its store.
    data, classifier_folder : Path
    gaussian : Path, optional
        Windows are filled by the training items' mean if there is none.
    k : int
        Side of the windows.
    random_orders, seed : int
    device, threads
    out : Path
        Table to write (.tsv).

    Raises
    ------
    InputError
        If no explanation has a class, or two maps would have the same name.
    """
    _require_names(stores)
    use_cores(threads)
    items, network = Items(data), Network.load(classifier_folder)
    where = device_of(device)
    maps = [found for path in stores if (found := _Map.of(path)) is not None]
    if not maps:
        raise InputError("none of the explanations is of a class, so there is no curve to follow")
    windows = Windows(network.space, k, k)
    fill = _fill(items, gaussian, windows)
    curves = _Curves()
    orders_done: set[tuple[str, int]] = set()
    with progress(total=sum(len(one.items) for one in maps), desc="deletion", unit="map") as bar:
        for one in maps:
            for row, (name, number) in enumerate(zip(one.items, one.classes, strict=True)):
                image = torch.from_numpy(items.read([items.number(name)])[0])
                follow = _Follow(_classify(network, number, where), image, fill(image), k)
                curves.add(one.name, name, number, follow(order_of_windows(one.relevance(row), k)))
                if (name, number) not in orders_done:
                    orders_done.add((name, number))
                    random = _random_curves(follow, windows, random_orders, seed_of(seed, name))
                    curves.add(RANDOM, name, number, random)
                bar.update(1)
    table = curves.areas()
    _write(table, out)
    _write(compare_curves(table, RANDOM), out.with_name(f"{out.stem}-summary.tsv"))
    _write(curves.means(), out.with_name(f"{out.stem}-curves.tsv"))


def _require_names(stores: Sequence[Path]) -> None:
    names = [RANDOM, *(path.stem for path in stores)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"two maps would be called '{twice}' in the tables: give stores of other names"
        )


@dataclass(frozen=True)
class _Follow:
    """Takes an order of windows to the curves (2, points) of deletion and insertion."""

    classify: Callable[[Tensor], Tensor]
    image: Tensor
    filled: Tensor
    k: int

    def __call__(self, order: IntArray) -> FloatArray:
        ends = ((self.image, self.filled), (self.filled, self.image))
        return np.stack(
            [
                curve(self.classify, *pair, order, self.k, steps=_STEPS, batch_size=_BATCH)
                for pair in ends
            ]
        )


def _random_curves(follow: _Follow, windows: Windows, count: int, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    orders = [random_order(int(np.prod(windows.shape)), generator) for _ in range(count)]
    return np.mean([follow(order) for order in orders], axis=0)


class _Curves:
    """The curves of all maps and items, and the tables that are made of them."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[str, int, FloatArray]]] = {}

    def add(self, name: str, item: str, number: int, curves: FloatArray) -> None:
        """Add the curves (2, points) of a map for an item and a class."""
        self._found.setdefault(name, []).append((item, number, curves))

    def areas(self) -> pd.DataFrame:
        """Areas under the curves, one row per map and item."""
        return pd.DataFrame(
            [
                {
                    "map": name,
                    "item": item,
                    "class": number,
                    **dict(zip(MEASURES, map(area_under, curves), strict=True)),
                }
                for name, found in self._found.items()
                for item, number, curves in found
            ]
        )

    def means(self) -> pd.DataFrame:
        """Mean curves over items, one row per map and point."""
        parts = []
        for name, found in self._found.items():
            mean = np.mean([curves for _, _, curves in found], axis=0)
            share = np.linspace(0, 1, mean.shape[1])
            columns = dict(zip(MEASURES, mean, strict=True))
            parts.append(pd.DataFrame({"map": name, "share": share, **columns}))
        return pd.concat(parts, ignore_index=True)


class _Map:
    """The first target of a class in a relevance store."""

    def __init__(self, path: Path, target: int) -> None:
        group = open_store(path)
        self.name = path.stem
        self.items = [str(name) for name in np.asarray(array(group, "item")[:])]
        self.classes = [int(n) for n in np.asarray(array(group, "class_number")[:])[:, target]]
        self._relevance, self._target = array(group, "relevance"), target

    def relevance(self, row: int) -> NDArray[np.float32]:
        """Relevance of an item."""
        return np.asarray(self._relevance[row, self._target])

    @classmethod
    def of(cls, path: Path) -> "_Map | None":
        numbers = np.asarray(array(open_store(path), "class_number")[:])
        of_class = np.flatnonzero((numbers >= 0).all(axis=0))
        return cls(path, int(of_class[0])) if len(of_class) else None


def _fill(items: Items, gaussian: Path | None, windows: Windows) -> Callable[[Tensor], Tensor]:
    if gaussian is None:
        training = np.flatnonzero(items.training)
        mean = float(np.mean([items.read([int(n)]).mean() for n in training]))
        return lambda image: Grey(mean).fill(image, windows)
    conditional = Conditional(load_gaussian(gaussian), range_of(gaussian))
    return lambda image: conditional.fill(image, windows)


def _classify(network: Network, number: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    @torch.inference_mode()
    def classify(x: Tensor) -> Tensor:
        logits = network.logits(x.to(device)).double()
        return torch.softmax(logits, 1)[:, number].cpu()

    return classify


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
