"""Zarr stores with named dimensions, coordinates and provenance; `xarray.open_zarr` opens them."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from preddiff.errors import InputError
from preddiff.storage.provenance import version, versions

PROVENANCE = "provenance"
# What Zarr raises on reading a chunk that is truncated, or whose checksum is wrong.
DAMAGED_CHUNK = (ValueError, RuntimeError)

# Bytes of this machine's memory: stores that claim to need more are refused before it is reserved.
_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def axes(dimensions: int) -> tuple[str, ...]:
    """Names of the spatial axes of images (rows first) or volumes."""
    return ("y", "x") if dimensions == 2 else ("x", "y", "z")


@dataclass(frozen=True)
class Variable:
    """How an array of a store is laid out.

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
        """Value of what is not written yet: NaN, or 0 for types without it."""
        return np.nan if np.issubdtype(self.dtype, np.floating) else 0


def create(
    path: Path,
    variables: Mapping[str, Variable],
    coordinates: Mapping[str, tuple[str | tuple[str, ...], Any]],
    provenance: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a store's coordinates and metadata; the arrays hold their fill value throughout.

    Parameters
    ----------
    path : Path
        An empty or missing folder.
    variables : mapping of str to Variable
    coordinates : mapping of str to (dimension, values)
    provenance : mapping
        What the store's content depends on. The package's version is stored beside it and not in
        it, so that another version with the same code can continue a store.
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
            "versions": versions(),
        },
    )
    encoding = {
        name: {
            "chunks": variable.chunks,
            "shards": variable.shards,
            # A checksum, so that reading finds damage.
            "compressors": (ZstdCodec(level=3), Crc32cCodec()),
            "fill_value": variable.fill,
            # All chunks of an array in one folder: half as many entries, and quick to list.
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
            # Nothing is written through dask: blocks are written by themselves later on.
            safe_chunks=False,
        )


def _portable(values: Any) -> NDArray[Any]:
    """Give strings a variable length, which all Zarr libraries can read."""
    values = np.asarray(values)
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


def update_attributes(path: Path, about: Mapping[str, Any]) -> None:
    """Add or replace attributes of a store, and renew its consolidated metadata."""
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs.update(dict(about))
    with _consolidated_metadata():
        zarr.consolidate_metadata(path)


@contextmanager
def _consolidated_metadata() -> Iterator[None]:
    with warnings.catch_warnings():
        # They are not in version 3 of the specification yet, but do not disturb other readers.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        yield


@contextmanager
def reading_metadata(path: Path) -> Iterator[None]:
    """Turn what Zarr raises where metadata or coordinates are damaged into an error of the user.

    Raises
    ------
    InputError
        If the body raises such an error; the message names the store.
    """
    try:
        yield
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a Zarr store of version 3, or its metadata are damaged ({error}); run "
            "the stage that makes it again"
        ) from None


def open_store(path: Path, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open a store of Zarr's version 3, for reading, or for reading and writing.

    Raises
    ------
    InputError
        If there is no store, or its metadata are damaged.
    """
    with reading_metadata(path):
        try:
            # Zarr's version 2 has a codec that unpickles what it reads.
            return zarr.open_group(path, mode=mode, zarr_format=3, use_consolidated=False)
        except FileNotFoundError:
            raise InputError(f"{path}: no such store; run the stage that makes it first") from None


def path_of(group: zarr.Group) -> Path:
    """Folder of a store."""
    return Path(str(group.store_path).removeprefix("file://"))


def attributes(group: zarr.Group) -> dict[str, Any]:
    """Attributes of a store."""
    return dict(group.attrs)


def array_names(group: zarr.Group) -> list[str]:
    """Names of a store's arrays, sorted.

    Raises
    ------
    InputError
        If the metadata of one are damaged.
    """
    with reading_metadata(path_of(group)):
        return sorted(group.array_keys())


def array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Array of a store.

    Raises
    ------
    InputError
        If the store has no such array, its metadata are damaged, or reading one item of it takes
        more memory than this machine has.
    """
    path = path_of(group)
    with reading_metadata(path):
        found = group.get(name)
    if not isinstance(found, zarr.Array):
        raise InputError(f"{path}: the store has no array '{name}'; run the stage that makes it")
    size = _bytes_to_read(found)
    if size > _MEMORY:
        raise InputError(
            f"{path}: array '{name}' has shape {found.shape} and chunks {found.chunks}; reading "
            f"{'it' if found.ndim == 1 else 'one item'} takes {size / 1e9:,.0f} GB of memory, but "
            f"this machine has {_MEMORY / 1e9:,.0f} GB"
        )
    return found


def _bytes_to_read(found: zarr.Array[Any]) -> int:
    """Memory that is taken at a time: for an item, a chunk if that is larger, or a whole axis.

    Levels of an item are read one by one.
    """
    names = getattr(found.metadata, "dimension_names", None) or ()
    item = found.shape if found.ndim == 1 else found.shape[2 if "level" in names else 1 :]
    return max(prod(item), prod(found.chunks)) * max(found.dtype.itemsize, 8)


def open_dataset(path: Path) -> xr.Dataset:
    """Open a store with xarray, lazily.

    Raises
    ------
    InputError
        If there is no store, or its metadata are damaged.
    """
    open_store(path)
    return xr.open_zarr(path, chunks=None, zarr_format=3)


def provenance_of(path: Path) -> dict[str, Any]:
    """Provenance of a store: what its content depends on.

    Raises
    ------
    InputError
        If there is no store, or it has no provenance.
    """
    provenance = attributes(open_store(path)).get(PROVENANCE)
    if not isinstance(provenance, dict):
        raise InputError(
            f"{path}: the store has no provenance, so it was not made by preddiff, or its metadata "
            "are damaged"
        )
    return provenance
