"""Command info: print what a store holds, how much of it is computed, and what it was made by."""

import argparse
import json
from pathlib import Path
from typing import Any

import zarr

from preddiff.storage.filled import BlockCounts, is_filled_by_jobs
from preddiff.storage.stores import PROVENANCE, array, array_names, attributes, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("store", type=Path, metavar="STORE", help="any store of a study")


def run(arguments: argparse.Namespace) -> None:
    """Print the description of a store.

    Raises
    ------
    InputError
        If there is no store, or its metadata are damaged.
    """
    print(describe(arguments.store))


def describe(path: Path) -> str:
    """Describe a store in plain text.

    Raises
    ------
    InputError
        If there is no store, or its metadata are damaged.
    """
    group = open_store(path)
    about = attributes(group)
    provenance: Any = about.pop(PROVENANCE, {})
    names = array_names(group)
    lines = [str(path), "", "Arrays"]
    lines += [_array(name, array(group, name)) for name in names]
    if is_filled_by_jobs(group):
        lines += ["", "Computed", _computed(path)]
    lines += ["", "Attributes", *_pairs(about)]
    lines += ["", "Provenance", *_pairs(provenance)]
    return "\n".join(lines)


def _array(name: str, one: zarr.Array[Any]) -> str:
    dimensions = one.metadata.dimension_names or ()  # type: ignore[union-attr]
    shape = ", ".join(f"{d} {n}" for d, n in zip(dimensions, one.shape, strict=False))
    size = one.nbytes_stored()
    return f"  {name:<14} {one.dtype!s:<10} ({shape}), {size / 1e6:,.1f} MB stored"


def _computed(path: Path) -> str:
    counts = BlockCounts(path)
    if counts.has_levels:
        errors = [counts.errors(item) for item in counts.items_begun()]
        last = [float(found[-1]) for found in errors if len(found)]
        return (
            f"  {len(errors):,} of {counts.items:,} items begun, {sum(map(len, errors)):,} levels; "
            + (f"largest error {max(last):.3g}, " if last else "")
            + f"{attributes(open_store(path))['accuracy']:g} asked for"
        )
    written = [counts.blocks_written(item) for item in counts.items_begun()]
    blocks = counts.blocks * counts.items
    share = sum(written) / blocks if blocks else 1.0
    return (
        f"  {written.count(counts.blocks):,} of {counts.items:,} items, {sum(written):,} of "
        f"{blocks:,} blocks ({share:.0%})"
    )


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"  {key}: {_short(value)}" for key, value in sorted(values.items())] or ["  nothing"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
