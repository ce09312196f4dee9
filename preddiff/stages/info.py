"""Command info: what a store holds, how much of it is done, and how it was made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.stores import PROVENANCE, array, attributes, open_store


def describe(path: Path) -> str:
    """Describe a store in plain text.

    Raises
    ------
    InputError
        If there is no store.
    """
    group = open_store(path)
    about = attributes(group)
    provenance: Any = about.pop(PROVENANCE, {})
    arrays = [(name, array(group, name)) for name in sorted(group.array_keys())]
    lines = [str(path), "", "Arrays"]
    lines += [_array(name, one) for name, one in arrays]
    if {"mean", "reference"} <= {name for name, _ in arrays}:
        lines += ["", "Done", *_done(ExpectationStore(path))]
    lines += ["", "Attributes", *_pairs(about)]
    lines += ["", "Made by", *_pairs(provenance)]
    return "\n".join(lines)


def _array(name: str, one: zarr.Array[Any]) -> str:
    dimensions = one.metadata.dimension_names or ()  # type: ignore[union-attr]
    shape = ", ".join(f"{d} {n}" for d, n in zip(dimensions, one.shape, strict=False))
    size = one.nbytes_stored()
    return f"  {name:<14} {one.dtype!s:<10} ({shape}), {size / 1e6:,.1f} MB stored"


def _done(store: ExpectationStore) -> list[str]:
    missing = np.array([len(store.missing(number)) for number in range(len(store.items))])
    blocks = len(store.blocks) * len(store.items)
    done = blocks - missing.sum()
    return [
        f"  {np.count_nonzero(missing == 0)} of {len(store.items)} items, "
        f"{done} of {blocks} blocks ({done / blocks:.0%})"
    ]


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"  {key}: {_short(value)}" for key, value in sorted(values.items())] or ["  nothing"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Add."""
    parser.add_argument("store", type=Path, help="any store")


def run(arguments: "argparse.Namespace") -> None:
    """Run."""
    print(describe(arguments.store))
