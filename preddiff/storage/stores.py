"""Zarr stores: layout, blocks, resume, provenance. All open with `xarray.open_zarr`."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from preddiff.errors import InputError
from preddiff.storage.provenance import version

PROVENANCE = "provenance"

# Bytes of this machine's memory; what a store asks for beyond is refused before it is reserved.
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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
            # With a checksum, so that damage is found on reading.
            "compressors": (ZstdCodec(level=3), Crc32cCodec()),
            "fill_value": variable.fill,
            # All files of an array in one folder: half as many entries, and quick to list.
            "chunk_key_encoding": {"name": "default", "separator": "."},
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
        # Not in Zarr's version 2, which knows a codec that unpickles what it reads.
        return zarr.open_group(
            path, mode="r+" if mode == "r+" else "r", zarr_format=3, use_consolidated=False
        )
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
        If the store has no such array, or one that no memory holds.
    """
    found = group.get(name)
    if not isinstance(found, zarr.Array):
        raise InputError(f"{group.store_path}: the store has no array '{name}'")
    size = _item_size(found)
    if size > _MEMORY:
        raise InputError(
            f"{group.store_path}: array '{name}' of shape {found.shape} would take "
            f"{size / 1e9:,.0f} GB of memory for an item, or as a whole if it has one axis, of "
            f"{_MEMORY / 1e9:,.0f} GB here"
        )
    return found


def _item_size(found: zarr.Array[Any]) -> int:
    """Bytes that reading takes at a time: an item, or a chunk if it is larger, or a whole axis."""
    item = found.shape if found.ndim == 1 else found.shape[1:]
    entry = max(found.dtype.itemsize, 8)
    return max(prod(item), prod(found.chunks)) * entry


def open_dataset(path: Path) -> xr.Dataset:
    """Open a store with xarray, lazily.

    Raises
    ------
    InputError
        If there is no store.
    """
    open_store(path)
    return xr.open_zarr(path, chunks=None, zarr_format=3)


def provenance_of(path: Path) -> dict[str, Any]:
    """Provenance of a store."""
    provenance = attributes(open_store(path)).get(PROVENANCE)
    if not isinstance(provenance, dict):
        raise InputError(f"{path}: not a store of this package (it has no provenance)")
    return provenance
