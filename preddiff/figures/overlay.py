"""Drawing relevance over anatomy: colour scale, threshold, orientation and slices."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from preddiff.storage.files import write_atomically

PLANES = ("sagittal", "coronal", "axial")
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


@dataclass(frozen=True)
class Scale:
    """Symmetric colour scale of relevance: red for the class, blue against it.

    Attributes
    ----------
    limit : float
        Value at the upper end of the colour map; its negative is at the lower end.
    threshold : float
        Share of `limit` below which relevance is not shown.
    colormap : str
        Name of a Matplotlib colour map.
    """

    limit: float
    threshold: float
    colormap: str = "RdBu_r"

    @classmethod
    def of(cls, *maps: NDArray[np.floating], threshold: float, colormap: str) -> "Scale":
        """Make a scale up to the absolute maximum of some maps; up to 1 for empty maps."""
        finite = [np.abs(one[np.isfinite(one)]) for one in maps]
        limit = max((float(one.max()) for one in finite if one.size), default=0.0)
        return cls(limit or 1.0, threshold, colormap)

    @property
    def mappable(self) -> ScalarMappable:
        """Object from which Matplotlib draws a colour bar."""
        return ScalarMappable(Normalize(-self.limit, self.limit), colormaps[self.colormap])

    def colours(self, relevance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map relevance to colours (..., 4), transparent below the threshold and for NaN."""
        colours = np.asarray(self.mappable.to_rgba(np.nan_to_num(relevance)))
        shown = np.abs(np.nan_to_num(relevance)) > self.threshold * self.limit
        colours[..., 3] = np.where(shown, 0.9, 0.0)
        return colours


@dataclass(frozen=True)
class View:
    """Orientation of a slice in a figure: superior or anterior up, with letters for the sides.

    Attributes
    ----------
    axis : {0, 1, 2}
        Axis of the volume that is perpendicular to the slice.
    affine : array (4, 4)
        From voxels to millimetres.
    """

    axis: int
    affine: NDArray[np.floating]

    @property
    def _codes(self) -> tuple[str, ...]:
        codes: tuple[str, ...] = nib.orientations.aff2axcodes(self.affine)
        return codes

    @property
    def _across(self) -> int:
        return 1 if self.axis == 0 else 0

    @property
    def _up(self) -> int:
        return 1 if self.axis == 2 else 2

    def image(self, volume: NDArray[np.floating], number: int) -> NDArray[np.floating]:
        """Return a slice as an image (rows, columns), from top to bottom."""
        image = np.take(volume, number, self.axis).T
        # Rows are reversed if the vertical axis of the volume points upwards.
        return image[::-1] if self._codes[self._up] in "SA" else image

    def row_of(self, length: int, voxel: float) -> float:
        """Return the row of a voxel of the vertical axis, which has `length` voxels."""
        return length - 1 - voxel if self._codes[self._up] in "SA" else voxel

    @property
    def sides(self) -> tuple[str, str]:
        """Letters of the left and the right side of the image."""
        right = self._codes[self._across]
        return _OPPOSITE[right], right

    def millimetres(self, number: int) -> float:
        """Return the coordinate of a slice along its axis, in millimetres."""
        return float(self.affine[self.axis, self.axis] * number + self.affine[self.axis, 3])

    def name(self, number: int) -> str:
        """Return the name of a slice: its number and its coordinate in millimetres."""
        return f"slice {number} ({'xyz'[self.axis]} = {self.millimetres(number):+.0f} mm)"


def draw_slice(
    axes: Axes,
    view: View,
    number: int,
    volume: NDArray[np.floating],
    relevance: NDArray[np.floating],
    scale: Scale,
    *,
    reverse: bool = False,
) -> None:
    """Draw a slice of a volume with relevance over it.

    Parameters
    ----------
    axes : Axes
    view : View
    number : int
        Number of the slice.
    volume, relevance : array (X, Y, Z)
        Relevance is NaN outside the input of the classifier.
    scale : Scale
    reverse : bool
        Show the anatomy dark on white, so that faint colours are easier to see.
    """
    top = float(np.percentile(volume[volume > 0], 99.5)) if (volume > 0).any() else 1.0
    grey = "gray_r" if reverse else "gray"
    axes.imshow(view.image(volume, number), cmap=grey, vmin=0, vmax=top, interpolation="nearest")
    axes.imshow(scale.colours(view.image(relevance, number)), interpolation="nearest")
    ink = "black" if reverse else "white"
    for side, x, align in zip(view.sides, (0.02, 0.98), ("left", "right"), strict=True):
        axes.text(
            x, 0.97, side, color=ink, fontsize=7, transform=axes.transAxes, ha=align, va="top"
        )
    hide_frame(axes)


def draw_scale(figure: Figure, axes: list[Axes], scale: Scale, label: str) -> Colorbar:
    """Draw a colour bar beside some axes, with the threshold and labels at the ends."""
    bar = figure.colorbar(scale.mappable, ax=axes, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label(f"{label}\n(below {scale.threshold:.0%} of the maximum not shown)", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    label_ends(bar)
    bar.ax.ticklabel_format(style="sci", scilimits=(-2, 3), useMathText=True)
    bar.ax.yaxis.get_offset_text().set_fontsize(6)
    bar.ax.yaxis.get_offset_text().set_x(2.5)
    for edge in (-scale.threshold, scale.threshold):
        bar.ax.axhline(edge * scale.limit, color="black", linewidth=0.5)
    return bar


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and, beside it, as PDF. Equal figures give equal files."""
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=200, format="png", metadata={"Software": None})
    with write_atomically(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, dpi=200, format="pdf", metadata={"CreationDate": None})


def label_ends(bar: Colorbar) -> None:
    """Label the ends of a colour bar of relevance."""
    bar.ax.set_title("for", fontsize=7, color="darkred")
    bar.ax.text(
        0.5,
        -0.03,
        "against",
        fontsize=7,
        color="darkblue",
        ha="center",
        va="top",
        transform=bar.ax.transAxes,
    )


def hide_frame(axes: Axes) -> None:
    """Remove ticks and frame around an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def labelled(name: str, k: int | None) -> str:
    """Name of an explanation, with the side k of its windows if it has any."""
    return name if k is None else f"{name} (k = {k})"
