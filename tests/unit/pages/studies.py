"""Small studies for pages: stores with values that tests know, written by the package's writers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preddiff.storage.relevance import create_relevance
from preddiff.storage.stores import Variable, axes, create

RAS = np.diag([2.0, 3.0, 2.5, 1.0])
RAS[:3, 3] = (-12, -20, 7)


def write_data(
    path: Path,
    intensities: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str],
    affine: np.ndarray | None = RAS,
    truth: np.ndarray | None = None,
) -> None:
    """A data store of volumes (n, x, y, z), or, without an affine, of images (n, c, y, x)."""
    space = intensities.shape[-3:] if affine is not None else intensities.shape[-2:]
    channel = () if affine is not None else ("channel",)
    classes = sorted({*groups})
    scale = {} if affine is not None else {"scale_factor": 1 / 255}
    about: dict[str, Any] = {"classes": classes, "value_name": None}
    create(
        path,
        {
            "intensity": Variable(
                ("item", *channel, *axes(len(space))), intensities.shape, intensities.shape, scale,
                dtype=str(intensities.dtype),
            ),
            **({} if truth is None else {"truth": Variable(
                ("item", *axes(len(space))), truth.shape, truth.shape, {}, dtype="uint8"
            )}),
        },
        {
            "item": ("item", np.array(names)),
            "group": ("item", np.array(groups)),
            "class_number": ("item", np.array([classes.index(group) for group in groups])),
            "training": ("item", np.ones(len(names), bool)),
            "digest": ("item", np.array(["" for _ in names])),
        },
        {},
        about if affine is None else about | {"affine": affine.tolist()},
    )  # fmt: skip
    _fill(path, {"intensity": intensities} | ({} if truth is None else {"truth": truth}))


def write_relevance(
    path: Path,
    data: Path,
    names: Sequence[str],
    relevance: np.ndarray,
    stderr: np.ndarray,
    targets: Sequence[str] = ("probability:patient",),
    classes: Sequence[str] = ("control", "patient"),
    corner: Sequence[int] | None = None,
    error: np.ndarray | None = None,
    predictions: Path | None = None,
) -> None:
    """A relevance store with maps (item, target, *space)."""
    space = relevance.shape[2:]
    numbers = np.full((len(names), len(targets)), len(classes) - 1)
    create_relevance(
        path, list(names), list(targets), numbers,
        np.linspace(0.2, 0.8, numbers.size).reshape(numbers.shape),
        {"k": 2, "l": 4, "sampler": "conditional", "estimator": "samples", "samples": 5},
        {
            "corner": list(corner or [0] * len(space)), "space": list(space), "k": 2,
            "classes": list(classes), "training_size": 10, "shows_evidence": True,
            "inputs": {
                "data": f"../data/{data.name}", "classifier": "../classifiers/none",
                "predictions": None if predictions is None else f"../tables/{predictions.name}",
            },
        },
        with_error=error is not None,
    )  # fmt: skip
    _fill(path, {"relevance": relevance, "stderr": stderr})
    if error is not None:
        _fill(path, {"error": error})


def _fill(path: Path, values: Mapping[str, np.ndarray]) -> None:
    import zarr

    group = zarr.open_group(path, mode="r+")
    for name, found in values.items():
        array: Any = group[name]
        array[:] = found


NAMES = [f"sub-{number}" for number in range(5)]
GROUPS = ["control", "control", "control", "patient", "patient"]
SPACE, CORNER = (9, 10, 8), (3, 0, 0)


class Cohort:
    """A study of volumes: two explanations of a slab, the second with two targets."""

    def __init__(
        self, folder: Path, affine: np.ndarray = RAS, names: Sequence[str] = NAMES
    ) -> None:
        generator = np.random.default_rng(5)
        self.results, self.affine, self.names = folder / "results/cohort", affine, list(names)
        self.scans = generator.uniform(0, 3, size=(5, *SPACE)).astype(np.float32)
        slab = (4, *SPACE[1:])
        self.first = generator.normal(size=(5, 1, *slab)).astype(np.float32)
        self.first[0, 0, 1, 2, 3] = np.nan
        self.first_error = generator.exponential(size=self.first.shape).astype(np.float32)
        self.second = generator.normal(scale=1e-6, size=(3, 2, *slab)).astype(np.float32)
        self.second_error = np.zeros_like(self.second)
        self.truth = np.zeros(self.scans.shape, np.uint8)
        self.truth[3, 4:7, 2:6, 3:7] = 1
        data = self.results / "data/cohort.zarr"
        write_data(data, self.scans, names, GROUPS, affine, self.truth)
        write_relevance(
            self.results / "relevance/first.zarr",
            data,
            names,
            self.first,
            self.first_error,
            corner=CORNER,
        )
        write_relevance(
            self.results / "relevance/second.zarr", data, [names[n] for n in (0, 1, 3)],
            self.second, self.second_error, ["probability:patient", "logit:patient"], corner=CORNER,
        )  # fmt: skip


class Photographs:
    """A study of images: two explanations, the first with a hidden map, the second refined."""

    def __init__(self, folder: Path, names: Sequence[str] = ("a.png", "b.png", "c.png")) -> None:
        generator = np.random.default_rng(6)
        self.results, self.names = folder / "results/photographs", list(names)
        self.images = generator.integers(0, 256, size=(3, 3, 12, 16), dtype=np.uint8)
        self.first = generator.normal(size=(3, 2, 12, 16)).astype(np.float32)
        self.first[1, 0, 3, 4] = np.nan
        self.first_error = generator.exponential(size=self.first.shape).astype(np.float32)
        self.second = generator.normal(size=(3, 1, 12, 16)).astype(np.float32)
        self.second_error = generator.exponential(size=self.second.shape).astype(np.float32)
        self.truth = np.zeros((3, 12, 16), np.uint8)
        self.truth[0, 3:9, 4:10] = 1
        data = self.results / "data/photographs.zarr"
        classes = ["cat", "dog"]
        write_data(data, self.images, names, ["cat", "dog", "cat"], None, self.truth)
        write_relevance(
            self.results / "relevance/first.zarr",
            data,
            names,
            self.first,
            self.first_error,
            ["probability:top-1", "map:relu:0"],
            classes,
        )
        write_relevance(
            self.results / "relevance/second.zarr", data, names, self.second,
            np.zeros_like(self.second), ["logit:dog"], classes, error=self.second_error,
        )  # fmt: skip
