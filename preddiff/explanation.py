"""What `explain` returns: arrays, with a picture, a view in notebooks and a labelled dataset."""

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preddiff.evidence import Expectations
from preddiff.storage.stores import axes
from preddiff.windows import FloatArray, IntArray, Windows

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from preddiff.figures.panels import Row

_PAPER_THRESHOLD = 0.15
_NOTEBOOK_DPI = 110


@dataclass(frozen=True)
class Explanation:
    """What `explain` found for one input.

    With several targets, all arrays but `x` and `draws` have them as their first axis. In a
    notebook, an explanation shows itself: the input, and the relevance over it.

    Attributes
    ----------
    relevance : float64 array (*space)
        Mean evidence of the windows that contain each voxel: positive for the target, negative
        against it; in bits for probabilities.
    stderr : float64 array (*space)
        Standard error of the relevance from the draws; 0 where it is exact.
    evidence : float64 array (*windows.shape)
        Evidence of each window; interpolated where it was not drawn.
    expectations : Expectations
        The raw numbers: reference (1, targets), change, variance and mean (1, targets,
        *windows.shape), NaN for windows that were not drawn.
    windows : Windows
    x : float32 array (channels, *space)
        The input that was explained.
    target : int or tuple of int
        Columns of the classifier's output that were explained, as they were asked for.
    unit : str
        Unit of relevance and evidence: "bits", or that of the output.
    error : float64 array (*space), optional
        With an accuracy: standard deviation of the relevance's error against all windows at stride
        1 and draws without end, interpolation included.
    draws : int64 array (*windows.shape), optional
        With an accuracy: draws of each window; 0 where it was not drawn. In bfloat16, `evidence`
        and `relevance` contain the shift to float32, which `expectations` do not.
    reached : float or float64 array (targets,), optional
        With an accuracy: root mean square of `error`, as a share of the largest magnitude of the
        relevance.
    """

    relevance: FloatArray
    stderr: FloatArray
    evidence: FloatArray
    expectations: Expectations
    windows: Windows
    x: NDArray[np.float32]
    target: int | tuple[int, ...]
    unit: str
    error: FloatArray | None = None
    draws: IntArray | None = None
    reached: float | FloatArray | None = None

    @property
    def _targets(self) -> tuple[int, ...]:
        return self.target if isinstance(self.target, tuple) else (self.target,)

    def plot(self, *, threshold: float = _PAPER_THRESHOLD, colormap: str = "RdBu_r") -> "Figure":
        """Draw the input, and the relevance for each target over it.

        Of a volume, the three planes through the voxel of largest magnitude are shown, in voxel
        order: no affine is known here, so left and right are not marked.

        Parameters
        ----------
        threshold : float
            Share of the largest magnitude below which relevance is not shown; 0.15 in the paper.
        colormap : str
            Name of a Matplotlib colour map, symmetric around 0.

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot: show it by returning it in a notebook, or save it by its
            `savefig`.
        """
        # Matplotlib takes a second to import, which only pictures need.
        from preddiff.figures.panels import draw_panels

        return draw_panels(self._rows(), threshold=threshold, colormap=colormap)

    def _rows(self) -> list["Row"]:
        from preddiff.figures.panels import Panel, Row

        image, maps = _brightness(self.x), self.relevance.reshape(-1, *self.x.shape[1:])
        if self.x.ndim == 3:
            panels = [
                Panel(image, one, "relevance", f"output {target}", unit=self.unit)
                for target, one in zip(self._targets, maps, strict=True)
            ]
            return [Row("", [Panel(image, title="input"), *panels])]
        rows = []
        for target, one in zip(self._targets, maps, strict=True):
            peak = np.unravel_index(np.abs(one).argmax(), one.shape)
            planes = [
                Panel(
                    np.asarray(image.take(number, axis + 1)),
                    np.asarray(one.take(number, axis)),
                    "relevance",
                    f"{name} = {number}",
                    unit=self.unit,
                )
                for axis, (name, number) in enumerate(zip(axes(3), map(int, peak), strict=True))
            ]
            rows.append(Row(f"output {target}", planes))
        return rows

    def to_xarray(self) -> "xr.Dataset":
        """Label the arrays with their dimensions and coordinates.

        Returns
        -------
        xarray.Dataset
            relevance, stderr and, with an accuracy, error over (target, *space); evidence and, with
            an accuracy, draws over (target, *windows) and (*windows). Spatial dimensions are y, x
            of images and x, y, z of volumes, in voxels; `window_x` and so on are the first voxels
            of windows. A single target is a coordinate without a dimension.
        """
        import xarray as xr

        space = axes(len(self.windows.space))
        grid = tuple(f"window_{axis}" for axis in space)
        lead = ("target",) if isinstance(self.target, tuple) else ()
        unit = {"units": self.unit}
        variables: dict[str, Any] = {
            "relevance": ((*lead, *space), self.relevance, unit),
            "stderr": ((*lead, *space), self.stderr, unit),
            "evidence": ((*lead, *grid), self.evidence, unit),
        }
        if self.error is not None:
            variables["error"] = ((*lead, *space), self.error, unit)
        if self.draws is not None:
            variables["draws"] = (grid, self.draws)
        coordinates: dict[str, Any] = {
            "target": (lead, list(self.target) if isinstance(self.target, tuple) else self.target),
            **{axis: np.arange(n) for axis, n in zip(space, self.windows.space, strict=True)},
            **dict(zip(grid, self.windows.starts, strict=True)),
        }
        attributes = {"k": self.windows.k, "stride": self.windows.stride}
        return xr.Dataset(variables, coordinates, attributes)

    def _repr_html_(self) -> str:
        picture = io.BytesIO()
        self.plot().savefig(picture, dpi=_NOTEBOOK_DPI, format="png")
        encoded = base64.b64encode(picture.getvalue()).decode()
        summary = self._summary()
        return (
            f'<figure style="margin:0"><img alt="{summary}" '
            f'src="data:image/png;base64,{encoded}"><figcaption>{summary}</figcaption></figure>'
        )

    def _summary(self) -> str:
        """One line of numbers on the map; it contains no text from outside."""
        largest = np.abs(self.relevance).max()
        parts = [
            f"Largest magnitude {largest:.3g} {self.unit}",
            f"windows of side {self.windows.k}",
        ]
        if self.draws is not None:
            parts.append(f"{np.count_nonzero(self.draws):,} of {self.draws.size:,} drawn")
        if self.reached is not None:
            parts.append(f"error {np.max(self.reached):.1%} of the largest magnitude")
        return ", ".join(parts) + "."


def _brightness(x: NDArray[np.float32]) -> FloatArray:
    """Values from 0 to 1, of three channels (colours) or else of their mean, (channels, *space)."""
    shown = np.asarray(x if len(x) == 3 else x.mean(axis=0, keepdims=True), dtype=np.float64)
    span = shown.max() - shown.min()
    return (shown - shown.min()) / (span or 1.0)
