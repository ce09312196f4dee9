"""Figure 11 of the paper: slices of one subject along all three axes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from pydantic import Field

from preddiff.figures.base import FIGURES
from preddiff.figures.overlay import PLANES, Scale, View, draw_scale, draw_slice
from preddiff.figures.volume_maps import (
    OneSubject,
    VolumeFigureSettings,
    VolumeMaps,
    subject_of,
)


@FIGURES.register
class AllAxes(VolumeFigureSettings, OneSubject):
    """Slices of one subject along all three axes (figure 11)."""

    kind: Literal["slices"] = Field(description="slices")

    def draw(self, maps: Sequence[VolumeMaps]) -> Figure:
        """Draw the figure of one explanation."""
        one = maps[0]
        name = subject_of(maps, self.item)
        return slices_along_all_axes(
            one.volume(name),
            one.relevance(name),
            one.items.affine,
            axis=one.axis,
            threshold=self.threshold,
            colormap=self.colormap,
            quantity=one.quantity,
            title=one.label(name).replace("\n", ", "),
        )


def slices_along_all_axes(
    volume: NDArray[np.floating],
    relevance: NDArray[np.floating],
    affine: NDArray[np.floating],
    *,
    axis: int,
    threshold: float,
    colormap: str,
    quantity: str,
    title: str,
    count: int = 4,
) -> Figure:
    """Draw slices of one subject along all three axes.

    The first row shows evenly spaced slices of the slab. Along the other axes, in which the slab
    is an outlined band, the slices with the largest absolute relevance are shown.

    Parameters
    ----------
    volume, relevance : array (X, Y, Z)
    affine : array (4, 4)
    axis : int
        Axis of the slab.
    threshold : float
        Share of the absolute maximum below which relevance is not shown.
    quantity : str
        What the map shows, for its colour bar.
    colormap, title : str
    count : int
        Number of slices in a row.

    Returns
    -------
    Figure
    """
    scale = Scale.of(relevance, threshold=threshold, colormap=colormap)
    figure = Figure(figsize=(2.2 * count + 1.0, 7.0), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(3, count, squeeze=False)
    inside = np.flatnonzero(np.isfinite(relevance).any(axis=_other_axes(axis)))
    order = [axis, *_other_axes(axis)]
    for row, along in enumerate(order):
        view = View(along, affine)
        numbers = (
            np.linspace(inside[0], inside[-1], count).round().astype(int)
            if along == axis
            else _strongest(relevance, along, count)
        )
        for axes, number in zip(grid[row], numbers, strict=True):
            draw_slice(axes, view, int(number), volume, relevance, scale)
            axes.set_title(view.name(int(number)), fontsize=7)
            if along != axis:
                axes.add_patch(_outline(view, axis, inside, volume.shape))
        grid[row, 0].set_ylabel(PLANES[along], fontsize=8)
    draw_scale(figure, list(grid.flat), scale, quantity)
    return figure


def _other_axes(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _strongest(relevance: NDArray[np.floating], axis: int, count: int) -> NDArray[np.int64]:
    """Choose the slices with the largest absolute relevance, at least a few voxels apart."""
    strength = np.nansum(np.abs(relevance), axis=_other_axes(axis))
    apart = max(1, len(strength) // (3 * count))
    chosen: list[int] = []
    for number in np.argsort(-strength):
        if all(abs(number - other) >= apart for other in chosen):
            chosen.append(int(number))
        if len(chosen) == count:
            break
    return np.sort(np.array(chosen))


def _outline(view: View, axis: int, inside: NDArray[np.int64], shape: tuple[int, ...]) -> Rectangle:
    """Return the outline of the slab in a slice along another axis."""
    first, last = float(inside[0]), float(inside[-1])
    across, up = _other_axes(view.axis)
    if axis == across:
        corner, width, height = (first - 0.5, -0.5), last - first + 1, float(shape[up])
    else:
        rows = sorted(view.row_of(shape[up], voxel) for voxel in (first, last))
        corner, width, height = (-0.5, rows[0] - 0.5), float(shape[across]), last - first + 1
    return Rectangle(corner, width, height, fill=False, edgecolor="gold", linewidth=0.7)
