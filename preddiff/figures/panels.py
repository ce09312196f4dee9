"""Figures of images as grids of panels, similar to figures 1, 3 to 8 and 13 of the paper."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from preddiff.figures.overlay import Scale, hide_frame, label_ends

# Luminance of red, green and blue (ITU-R BT.601), for the grey image below relevance.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# Contrast of the image below relevance; faint, so that colours stand out.
_FAINT = 0.45
# Width of a panel, in inches.
_PANEL = 1.9
# Least number of columns: the title and the labels of rows do not fit a narrower figure.
_COLUMNS = 2
# Colours and opacity of overlays.
_OVERLAY = "jet"
_EXPONENT = 0.8


@dataclass(frozen=True)
class Panel:
    """One image of a grid.

    Attributes
    ----------
    image : array (channels, height, width)
        Pixel values from 0 to 1.
    values : array (height, width), optional
        Map that is drawn over the image, or instead of it.
    shows : {"image", "relevance", "magnitude", "overlay"}
        The image, relevance over the faint image, a map of magnitudes in grey, or a map of
        magnitudes over the image (`blend`).
    title, note : str
        Text above and below the image.
    title_colour : str
    unit : str
        Unit of relevance, printed with the largest magnitude.
    clipped : bool
        Whether colours are full from the 99th percentile of magnitudes on, for relevance of single
        pixels, a few of which exceed all others by far.
    """

    image: NDArray[np.floating]
    values: NDArray[np.floating] | None = None
    shows: Literal["image", "relevance", "magnitude", "overlay"] = "image"
    title: str = ""
    note: str = ""
    unit: str = ""
    title_colour: str = "black"
    clipped: bool = False


@dataclass(frozen=True)
class Row:
    """A row of panels with its label."""

    label: str
    panels: Sequence[Panel] = field(default_factory=list)


def draw_panels(rows: Sequence[Row], *, threshold: float, colormap: str, title: str = "") -> Figure:
    """Draw a grid of panels. Each map has its own symmetric scale, with its limit printed below.

    Parameters
    ----------
    rows : sequence of Row
    threshold : float
        Share of a map's largest magnitude below which relevance is not shown.
    colormap : str
        Name of a Matplotlib colour map.
    title : str

    Returns
    -------
    Figure
    """
    columns = max(_COLUMNS, *(len(row.panels) for row in rows))
    figure = Figure(
        figsize=(_PANEL * columns + 1.1, (_PANEL + 0.55) * len(rows) + 0.3), layout="constrained"
    )
    if title:
        figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes_of_row, row in zip(grid, rows, strict=True):
        for axes, panel in zip(axes_of_row, row.panels, strict=False):
            axes.set_axis_on()
            _draw(axes, panel, threshold, colormap)
        axes_of_row[0].set_ylabel(row.label, fontsize=7)
    shown = {panel.shows for row in rows for panel in row.panels}
    if "relevance" in shown:
        _draw_scale(figure, list(grid.flat), threshold, colormap)
    if "overlay" in shown:
        _draw_overlay_scale(figure, list(grid.flat))
    return figure


def grey(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the luminance (height, width) of an image of one or three channels."""
    if len(image) == 3:
        return np.tensordot(_LUMINANCE, image, 1)
    return np.asarray(image[0], dtype=np.float64)


def blend(image: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Lay a map over an image: (1 - A^0.8) image + A^0.8 jet(A).

    This is the overlay of Qi, Khorram, Li (2017), with A the map divided by its maximum.

    Parameters
    ----------
    image : array (1 or 3, height, width)
        Pixel values from 0 to 1.
    values : array (height, width)
        Not negative; 0 everywhere leaves the image as it is.

    Returns
    -------
    array (height, width, 3)
    """
    share = np.asarray(values, dtype=np.float64) / (float(values.max()) or 1.0)
    opacity = share[..., None] ** _EXPONENT
    picture = np.moveaxis(np.broadcast_to(image, (3, *image.shape[1:])), 0, -1)
    return (1 - opacity) * np.clip(picture, 0, 1) + opacity * colormaps[_OVERLAY](share)[..., :3]


def _draw(axes: Axes, panel: Panel, threshold: float, colormap: str) -> None:
    hide_frame(axes)
    axes.set_title(panel.title, fontsize=7, color=panel.title_colour)
    note = panel.note
    if panel.shows == "image" or panel.values is None:
        picture = np.moveaxis(panel.image, 0, -1) if len(panel.image) == 3 else panel.image[0]
        axes.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    elif panel.shows == "overlay":
        axes.imshow(blend(panel.image, panel.values), interpolation="nearest")
    elif panel.shows == "magnitude":
        # Clipped, because a few very large gradients would leave the rest black.
        # From the smallest value on, because averages over masks (RISE) have a large offset.
        low, top = float(panel.values.min()), float(np.percentile(panel.values, 99.5))
        top = top if top > low else low + 1
        axes.imshow(panel.values, cmap="gray", vmin=low, vmax=top, interpolation="nearest")
    else:
        values, word = panel.values, "largest"
        if panel.clipped:
            limit = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max())
            values, word = np.clip(values, -limit, limit), "full colours from"
        scale = Scale.of(values, threshold=threshold, colormap=colormap)
        faint = 1 - _FAINT * (1 - np.clip(grey(panel.image), 0, 1))
        axes.imshow(faint, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.imshow(_colours(values, scale), interpolation="nearest")
        note = f"{note}\n" if note else ""
        note += f"{word} {scale.limit:.2g} {panel.unit}".rstrip()
    axes.set_xlabel(note, fontsize=6)


def _colours(values: NDArray[np.floating], scale: Scale) -> NDArray[np.float64]:
    """Map relevance to colours whose opacity grows with its magnitude."""
    colours = scale.colours(values)
    share = np.abs(values) / scale.limit
    opacity = np.clip((share - scale.threshold) / max(0.5 - scale.threshold, 0.1), 0, 1)
    colours[..., 3] = np.where(colours[..., 3] > 0, 0.15 + 0.85 * opacity, 0)
    return colours


def _draw_bar(figure: Figure, axes: list[Axes], lowest: float, colormap: str) -> Colorbar:
    mappable = ScalarMappable(Normalize(lowest, 1), colormap)
    height = figure.get_size_inches()[1]
    # At most as tall as two rows of panels.
    share = min(0.8, 2 * _PANEL / height)
    return figure.colorbar(mappable, ax=axes, shrink=share, aspect=25, pad=0.02)


def _draw_overlay_scale(figure: Figure, axes: list[Axes]) -> None:
    bar = _draw_bar(figure, axes, 0, _OVERLAY)
    bar.set_ticks([0, 1])
    bar.ax.tick_params(labelsize=6)
    bar.set_label("share of each map's maximum", fontsize=6)


def _draw_scale(figure: Figure, axes: list[Axes], threshold: float, colormap: str) -> None:
    bar = _draw_bar(figure, axes, -1, colormap)
    bar.set_ticks([-1, -threshold, 0, threshold, 1], labels=["-1", "", "0", "", "1"])
    bar.ax.tick_params(labelsize=6)
    bar.set_label(
        f"relevance, as a share of each map's largest magnitude\n(below {threshold:.0%} not shown)",
        fontsize=6,
    )
    label_ends(bar)
