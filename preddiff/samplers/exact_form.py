"""Exact forms of samplers: the distribution of a weighted sum of voxels when windows are redrawn.

The exact estimator of linear classifiers makes no draws; it works with samplers that implement one
of these protocols.
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from preddiff.samplers.draws import window_voxels
from preddiff.windows import Block, FloatArray, IntArray, Windows

if TYPE_CHECKING:
    from scipy import sparse


@runtime_checkable
class HasNormalShift(Protocol):
    """A sampler whose draws are normal, so that sums of voxels are normal too."""

    def normal_shift(
        self, weights: FloatArray, windows: Windows, block: Block
    ) -> "tuple[sparse.csr_array, FloatArray, FloatArray]":
        """Return the distribution of weights . (x' - x), where x' is x with one window redrawn.

        Parameters
        ----------
        weights : float64 array (channels, *space)
            0 outside the part that has windows.
        windows : Windows
        block : Block
            n windows.

        Returns
        -------
        operator : csr array (n, voxels)
        offset : float64 array (n,)
            The mean is operator @ x + offset, for a flattened input x.
        deviation : float64 array (n,)
            Standard deviation, which does not depend on x.

        Raises
        ------
        InputError
            If this sampler's draws are not normal.
        """
        ...


@runtime_checkable
class HasFiniteValues(Protocol):
    """A sampler that replaces windows by one of finitely many values, all equally likely."""

    def weighted_sums(self, operator: "sparse.csr_array") -> FloatArray:
        """Apply an operator to each of the values.

        Parameters
        ----------
        operator : csr array (n, voxels)

        Returns
        -------
        float64 array (values, n)
        """
        ...

    def choices(self, item: str) -> IntArray:
        """Return which values can replace windows of an item, as rows of `weighted_sums`."""
        ...


def window_sums(weights: FloatArray, windows: Windows, block: Block) -> "sparse.csr_array":
    """Return the operator from a flattened input to the weighted sums of its windows.

    Parameters
    ----------
    weights : float64 array (channels, *space)
    windows : Windows
    block : Block
        n windows.

    Returns
    -------
    csr array (n, voxels)
    """
    voxels = window_voxels(windows, block, len(weights))
    return sparse_rows(weights.reshape(-1)[voxels], voxels, weights.size)


def sparse_rows(values: FloatArray, columns: IntArray, width: int) -> "sparse.csr_array":
    """Build a sparse matrix whose rows have the same number of values.

    Parameters
    ----------
    values : float64 array (rows, m)
    columns : int64 array (rows, m)
        Columns of the values.
    width : int
        Number of columns.

    Returns
    -------
    csr array (rows, width)
    """
    from scipy import sparse

    pointers = np.arange(0, columns.size + 1, columns.shape[1])
    return sparse.csr_array(
        (values.reshape(-1), columns.reshape(-1).astype(np.int32), pointers.astype(np.int32)),
        shape=(len(columns), width),
    )
