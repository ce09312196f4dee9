"""Whether the first and the last slice of a slab stand out in maps of relevance.

    python tests/benchmarks/slices.py results/STUDY/relevance/NAME.zarr ... [--axis 0] [--target 0]

For each store, the mean magnitude of relevance in each slice of the classifier's input, over all
items, as a share of that in the middle (the middle slice, or the middle two).
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr


def shares(path: Path, axis: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the slices, and mean magnitudes as shares of the middle's, (slices,)."""
    relevance = xr.open_zarr(path)["relevance"][:, target]
    along = relevance.dims[1 + axis]
    kept = [number for number, name in enumerate(relevance.dims) if name != along]
    means = np.abs(relevance.values).mean(axis=tuple(kept))
    middle = means[(len(means) - 1) // 2 : len(means) // 2 + 1].mean()
    return relevance[along].values, means / middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="+", type=Path, help="relevance stores")
    parser.add_argument("--axis", type=int, default=0, help="axis of the slices (default: 0)")
    parser.add_argument("--target", type=int, default=0, help="number of the target (default: 0)")
    arguments = parser.parse_args()
    for path in arguments.stores:
        slices, found = shares(path, arguments.axis, arguments.target)
        listed = " ".join(f"{share:.2f}" for share in found)
        print(f"{path.stem}: slices {slices[0]} to {slices[-1]}: {listed}")


if __name__ == "__main__":
    main()
