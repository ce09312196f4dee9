"""Zarr stores: layout, blocks, resume, provenance. All open with `xarray.open_zarr`."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from preddiff.engines import Expectations
from preddiff.errors import InputError
from preddiff.provenance import version
from preddiff.windows import Block, Windows

PROVENANCE = "provenance"


def axes(dimensions: int) -> tuple[str, ...]:
    """Names of the spatial axes of images (rows first) or volumes."""
    return ("y", "x") if dimensions == 2 else ("x", "y", "z")


@dataclass(frozen=True)
class Variable:
    """Layout of an array of a store.

    Attributes
    ----------
    dimensions, shape, chunks : tuple
    shards : tuple of int, optional
        Shape of the Zarr shards, each one file that groups chunks; a multiple of the chunks.
    attributes : mapping
        `units`, `long_name`, ...
    dtype : str
    """

    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    attributes: Mapping[str, Any]
    shards: tuple[int, ...] | None = None
    dtype: str = "float32"

    @property
    def fill(self) -> float:
        """What is not written yet: NaN, or 0 where the type has none."""
        return np.nan if np.issubdtype(self.dtype, np.floating) else 0


def create(
    path: Path,
    variables: Mapping[str, Variable],
    coordinates: Mapping[str, tuple[str | tuple[str, ...], Any]],
    provenance: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a store's coordinates and metadata; the arrays are all fill value, NaN.

    Parameters
    ----------
    path : Path
        An empty or missing folder.
    variables : mapping of str to Variable
    coordinates : mapping of str to (dimension, values)
    provenance : mapping
        What the store's content depends on. The package's version is noted beside it: another
        version with the same code goes on with a store.
    about : mapping, optional
        Further attributes of the store.
    """
    dataset = xr.Dataset(
        {
            name: (
                variable.dimensions,
                # One dask chunk: only metadata is taken from it.
                da.full(variable.shape, variable.fill, dtype=variable.dtype, chunks=variable.shape),
                dict(variable.attributes),
            )
            for name, variable in variables.items()
        },
        coords={name: (dim, _portable(values)) for name, (dim, values) in coordinates.items()},
        attrs={
            **(about or {}),
            PROVENANCE: dict(provenance),
            "preddiff": version(),
        },
    )
    encoding = {
        name: {
            "chunks": variable.chunks,
            "shards": variable.shards,
            "compressors": (ZstdCodec(level=3, checksum=True),),
            "fill_value": variable.fill,
        }
        for name, variable in variables.items()
    }
    with _consolidated_metadata():
        dataset.to_zarr(
            path,
            mode="w",
            zarr_format=3,
            encoding=encoding,
            compute=False,
            consolidated=True,
            # Nothing is written through dask: whoever fills the store writes whole blocks.
            safe_chunks=False,
        )


def _portable(values: Any) -> NDArray[Any]:
    """Strings of any length, which all Zarr libraries know, not NumPy's fixed-length ones."""
    values = np.asarray(values)
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


def describe(path: Path, about: Mapping[str, Any]) -> None:
    """Add attributes to a store, whose consolidated metadata are renewed."""
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs.update(dict(about))
    with _consolidated_metadata():
        zarr.consolidate_metadata(path)


@contextmanager
def _consolidated_metadata() -> Iterator[None]:
    with warnings.catch_warnings():
        # They are not yet in version 3 of the specification, but all readers cope.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        yield


def open_store(path: Path, mode: str = "r") -> zarr.Group:
    """Open a store's arrays.

    Raises
    ------
    InputError
        If there is no store.
    """
    try:
        return zarr.open_group(path, mode="r+" if mode == "r+" else "r", use_consolidated=False)
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        raise InputError(f"{path}: no such store; run the stage that makes it first") from None
    except (json.JSONDecodeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a Zarr store, or damaged ({error})") from None


def attributes(group: zarr.Group) -> dict[str, Any]:
    """Attributes of a store."""
    return dict(group.attrs)


def array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Array of a store.

    Raises
    ------
    InputError
        If the store has no such array.
    """
    found = group.get(name)
    if not isinstance(found, zarr.Array):
        raise InputError(f"{group.store_path}: the store has no array '{name}'")
    return found


def open_dataset(path: Path) -> xr.Dataset:
    """Open a store with xarray, lazily.

    Raises
    ------
    InputError
        If there is no store.
    """
    open_store(path)
    return xr.open_zarr(path, chunks=None)


def provenance_of(path: Path) -> dict[str, Any]:
    """Provenance of a store."""
    provenance = attributes(open_store(path)).get(PROVENANCE)
    if not isinstance(provenance, dict):
        raise InputError(f"{path}: not a store of this package (it has no provenance)")
    return provenance


def expectation_variables(
    items: int, targets: int, windows: Windows, block: int
) -> dict[str, Variable]:
    """Arrays of an expectation store: a chunk is a block of an item, a Zarr shard is an item."""
    grid = tuple(f"window_{axis}" for axis in axes(len(windows.space)))
    chunk = windows.block_shape(block)
    shard = tuple(-(-n // c) * c for n, c in zip(windows.shape, chunk, strict=True))

    def per_window(name: str) -> Variable:
        return Variable(
            ("item", "target", *grid),
            (items, targets, *windows.shape),
            (1, targets, *chunk),
            {"long_name": name},
            (1, targets, *shard),
        )

    return {
        "reference": Variable(
            ("item", "target"),
            (items, targets),
            (1, targets),
            {"long_name": "value z of the target for the intact item"},
        ),
        "change": per_window("E[z | x without window] - z, to full relative precision"),
        "variance": per_window("variance of z over the sampler's draws"),
        "mean": per_window("expectation E[z | x without window]"),
    }


class ExpectationStore:
    """The expectations of one explanation, filled block by block, by any number of jobs.

    Parameters
    ----------
    path : Path
        A store that `open_expectations` of the stage `open` has made.
    mode : {"r", "r+"}
    """

    def __init__(self, path: Path, mode: str = "r") -> None:
        self.path = path
        self.group = open_store(path, mode)
        self.items = [str(name) for name in np.asarray(array(self.group, "item")[:])]
        self.targets = [str(name) for name in np.asarray(array(self.group, "target")[:])]
        self.about = attributes(self.group)
        self.windows = Windows(tuple(self.about["space"]), self.about["k"], self.about["stride"])
        self.blocks = list(self.windows.blocks(self.about["block"]))

    def missing(self, item: int) -> list[Block]:
        """Blocks of an item that are not computed yet."""
        mean = np.asarray(array(self.group, "mean")[item])
        return [
            block for block in self.blocks if np.isnan(mean[(slice(None), *block.slices)]).any()
        ]

    def write(self, items: Sequence[int], block: Block, expectations: Expectations) -> None:
        """Store a block of some items. The mean is last: a block that has it is complete."""
        for row, item in enumerate(items):
            array(self.group, "reference")[item] = expectations.reference[row].astype(np.float32)
            for name in ("change", "variance", "mean"):
                values = getattr(expectations, name)[row].astype(np.float32)
                region: Any = (item, slice(None), *block.slices)
                array(self.group, name)[region] = values

    def read(self, item: int) -> dict[str, NDArray[np.float32]]:
        """All arrays of an item, by name, without the item axis.

        Raises
        ------
        InputError
            If blocks are missing.
        """
        missing = self.missing(item)
        if missing:
            raise InputError(
                f"{self.path}: {len(missing)} of {len(self.blocks)} blocks of item "
                f"'{self.items[item]}' are not computed yet; run preddiff explain on it"
            )
        names = ("reference", "change", "variance", "mean")
        return {name: np.asarray(array(self.group, name)[item]) for name in names}
