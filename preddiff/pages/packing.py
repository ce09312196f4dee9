"""Arrays of a page: values as integers of 8 or 16 bits with a scale, compressed, as text."""

import base64
import gzip
import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# How a code c stands for a value: offset + scale c, or scale c^2.
Law = Literal["linear", "square"]

_LARGEST = 32767
_LEVELS = 255
# Fastest levels of gzip that still gain; relevance is mostly noise to a compressor.
_LEVEL = 6


@dataclass(frozen=True)
class Packed:
    """An array as integers, each of which stands for a value.

    Attributes
    ----------
    codes : uint8 or int16 array
    law : {"linear", "square"}
        Value of a code c: offset + scale c, or scale c^2.
    scale, offset : float
    missing : int, optional
        Code of values that are not computed (NaN); None if there are none.
    limit : float
        Largest magnitude of the values; 0 if there are none.
    """

    codes: NDArray[np.integer[Any]]
    law: Law
    scale: float
    offset: float
    missing: int | None
    limit: float

    def about(self) -> dict[str, Any]:
        """Description of the array for the page, which decodes it by this."""
        return {
            "dtype": str(self.codes.dtype),
            "shape": list(self.codes.shape),
            "law": self.law,
            "scale": self.scale,
            "offset": self.offset,
            "missing": self.missing,
            "limit": self.limit,
        }

    def text(self) -> str:
        """Encode the codes as little-endian bytes, first axis fastest, in gzip and base64.

        This is the order of NIfTI for arrays (x, y, z), and that of transposed arrays otherwise.
        """
        codes = self.codes if sys.byteorder == "little" else self.codes.byteswap()
        # Equal arrays give equal text: no time of writing.
        packed = gzip.compress(codes.tobytes(order="F"), _LEVEL, mtime=0)
        return base64.b64encode(packed).decode("ascii")


def pack_relevance(values: NDArray[np.floating]) -> Packed:
    """Pack signed values as 16-bit integers, to within half of their scale.

    Parameters
    ----------
    values : float array
        NaN where they are not computed.

    Returns
    -------
    Packed
        With the scale max |values| / 32767, so that errors are below 1/65,000 of the maximum.
    """
    known = np.isfinite(values)
    exact = np.where(known, values, 0).astype(np.float64)
    limit = float(np.abs(exact).max(initial=0))
    scale = limit / _LARGEST or 1.0
    codes = np.where(known, np.rint(exact / scale), -_LARGEST - 1).astype(np.int16)
    return Packed(codes, "linear", scale, 0.0, -_LARGEST - 1, limit)


def pack_errors(values: NDArray[np.floating]) -> Packed:
    """Pack standard errors as squares of 8-bit integers.

    Roots are stored to within 1/508 of the largest one, so that small errors keep more of their
    digits than by a linear scale: an error of 1/100 of the largest is known to 4%.

    Parameters
    ----------
    values : float array
        Not negative; NaN where they are not computed.
    """
    known = np.isfinite(values)
    roots = np.sqrt(np.where(known, values, 0).astype(np.float64))
    largest = float(roots.max(initial=0))
    scale = largest / (_LEVELS - 1) or 1.0
    codes = np.where(known, np.rint(roots / scale), _LEVELS).astype(np.uint8)
    return Packed(codes, "square", scale**2, 0.0, _LEVELS, largest**2)


def pack_intensities(values: NDArray[np.number[Any]]) -> Packed:
    """Pack intensities of a scan or an image as 8-bit integers; bytes are kept as they are.

    Parameters
    ----------
    values : float or uint8 array
        Values that are not finite count as the smallest one.
    """
    if values.dtype == np.uint8:
        return Packed(
            values.astype(np.uint8), "linear", 1.0, 0.0, None, float(values.max(initial=0))
        )
    known = np.isfinite(values)
    exact = values.astype(np.float64)
    low = float(exact.min(where=known, initial=np.inf)) if known.any() else 0.0
    high = float(exact.max(where=known, initial=-np.inf)) if known.any() else 0.0
    scale = (high - low) / _LEVELS or 1.0
    codes = np.rint((np.where(known, exact, low) - low) / scale).astype(np.uint8)
    return Packed(codes, "linear", scale, low, None, max(abs(low), abs(high)))
