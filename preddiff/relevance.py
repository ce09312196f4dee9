"""From windows to voxels: the relevance of a voxel is the mean evidence of its windows."""

import numpy as np
from numpy.typing import NDArray

from preddiff.windows import FloatArray, Windows


def relevance(evidence: NDArray[np.floating], windows: Windows) -> FloatArray:
    """Average evidence over the windows that contain each voxel (Algorithm 1: WE / counts).

    Parameters
    ----------
    evidence : array (..., *windows.shape)

    Returns
    -------
    float64 array (..., *windows.space)
    """
    return windows.sum_over_windows(evidence) / windows.counts


def standard_error(evidence_error: NDArray[np.floating], windows: Windows) -> FloatArray:
    """Standard error of relevance from those of the windows, whose draws are independent.

    Parameters
    ----------
    evidence_error : array (..., *windows.shape)
        Standard error of each window's evidence.

    Returns
    -------
    float64 array (..., *windows.space)
    """
    return np.sqrt(windows.sum_over_windows(np.square(evidence_error))) / windows.counts
