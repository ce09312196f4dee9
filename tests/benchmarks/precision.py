"""How much reduced precision changes relevance, beside the error of a finite number of draws.

    python tests/benchmarks/precision.py FLOAT32.zarr OTHER.zarr

Takes the relevance stores of two explanations that differ in `precision` only, so that their
draws are the same. For each item and target: the correlation of the two maps, the largest
difference as a share of the largest relevance, and the root mean square and largest difference in
units of the first map's root mean square standard error.
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    arguments = parser.parse_args()
    first, second = (
        xr.open_zarr(path).load().astype(np.float64) for path in (arguments.first, arguments.second)
    )
    print("item, target: correlation | largest difference / largest | rms, largest / stderr")
    for item in np.intersect1d(first.item, second.item):
        for target in first.target.values:
            ours, other = (found.sel(item=item, target=target) for found in (first, second))
            map_, error = ours.relevance.values, ours.stderr.values
            difference = other.relevance.values - map_
            correlation = np.corrcoef(map_.ravel(), other.relevance.values.ravel())[0, 1]
            print(
                f"{item}, {target}: {correlation:.6f} | "
                f"{np.abs(difference).max() / np.abs(map_).max():.4f} | "
                f"{rms(difference) / rms(error):.3f}, {np.abs(difference).max() / rms(error):.3f}"
            )


if __name__ == "__main__":
    main()
