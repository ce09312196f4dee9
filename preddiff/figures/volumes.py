"""Figures of volumes, after figures 9 to 12 of the paper."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from preddiff.figures.overlay import PLANES, Scale, View, draw_scale, draw_slice

Volume = NDArray[np.floating]

RELEVANCE = "relevance: weight of evidence [bits]"
WEIGHTS = "weights of the logistic regression"


def relevance_against_weights(
    volume: Volume,
    relevance: Volume,
    weights: Volume,
    affine: NDArray[np.floating],
    *,
    slices: Sequence[int],
    axis: int,
    threshold: float,
    colormap: str,
    title: str,
) -> Figure:
    """Relevance and the classifier's weights on one subject (figure 9).

    Parameters
    ----------
    volume, relevance, weights : array (X, Y, Z)
        Anatomy; maps that are NaN outside the classifier's slab.
    affine : array (4, 4)
        From voxels to millimetres.
    slices, axis
        Slices to show, each on the anatomy and on the anatomy in reversed colours.
    threshold : float
        Share of a map's absolute maximum below which it is not shown.
    colormap : str
    title : str

    Returns
    -------
    Figure
    """
    view = View(axis, affine)
    figure = Figure(figsize=(2.1 * 2 * len(slices) + 1.2, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(2, 2 * len(slices), squeeze=False)
    for row, (values, label) in enumerate([(relevance, RELEVANCE), (weights, WEIGHTS)]):
        scale = Scale.of(values, threshold=threshold, colormap=colormap)
        for column, number in enumerate([n for n in slices for _ in range(2)]):
            axes = grid[row, column]
            draw_slice(axes, view, number, volume, values, scale, reverse=column % 2 == 1)
            if row == 0:
                note = ", reversed" if column % 2 else ""
                axes.set_title(view.name(number) + note, fontsize=7)
        grid[row, 0].set_ylabel("relevance" if row == 0 else "weights", fontsize=8)
        draw_scale(figure, list(grid[row]), scale, label)
    return figure


def subjects(
    volumes: Sequence[Volume],
    relevances: Sequence[Volume],
    labels: Sequence[str],
    affine: NDArray[np.floating],
    *,
    columns: int,
    number: int,
    axis: int,
    threshold: float,
    colormap: str,
) -> Figure:
    """One slice of several subjects of both classes, in rows, on one scale (figure 10).

    Parameters
    ----------
    volumes, relevances : sequence of array (X, Y, Z)
    labels : sequence of str
        Names of the subjects, with class and prediction.
    affine : array (4, 4)
    columns : int
        Subjects in a row.
    number, axis : int
        The slice.
    threshold, colormap
        As in `relevance_against_weights`.

    Returns
    -------
    Figure
    """
    view = View(axis, affine)
    rows = -(-len(volumes) // columns)
    scale = Scale.of(*relevances, threshold=threshold, colormap=colormap)
    figure = Figure(figsize=(2.2 * columns + 1.0, 2.3 * rows + 0.4), layout="constrained")
    figure.suptitle(f"{PLANES[axis]} {view.name(number)}", fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, volume, relevance, label in zip(grid.flat, volumes, relevances, labels, strict=False):
        axes.set_axis_on()
        draw_slice(axes, view, number, volume, relevance, scale)
        axes.set_title(label, fontsize=7)
    draw_scale(figure, list(grid.flat), scale, RELEVANCE)
    return figure


def other_slices(
    volume: Volume,
    relevance: Volume,
    affine: NDArray[np.floating],
    *,
    axis: int,
    threshold: float,
    colormap: str,
    title: str,
    count: int = 4,
) -> Figure:
    """More slices of one subject along all three axes (figure 11).

    The first row goes evenly through the slab; along the other axes, where the slab is a band
    (outlined), the slices of the largest absolute relevance are taken.

    Parameters
    ----------
    volume, relevance : array (X, Y, Z)
    affine : array (4, 4)
    axis : int
        Axis of the slab.
    threshold, colormap, title
        As in `relevance_against_weights`.
    count : int
        Slices in a row.

    Returns
    -------
    Figure
    """
    scale = Scale.of(relevance, threshold=threshold, colormap=colormap)
    figure = Figure(figsize=(2.2 * count + 1.0, 7.0), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(3, count, squeeze=False)
    inside = np.flatnonzero(np.isfinite(relevance).any(axis=_others(axis)))
    order = [axis, *_others(axis)]
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
    draw_scale(figure, list(grid.flat), scale, RELEVANCE)
    return figure


def patch_sizes(
    volume: Volume,
    relevances: Mapping[str, Volume],
    thresholds: Sequence[float],
    affine: NDArray[np.floating],
    *,
    slices: Sequence[int],
    axis: int,
    colormap: str,
    title: str,
) -> Figure:
    """Relevance of one subject for several sizes of windows, each on its own scale (figure 12).

    Parameters
    ----------
    volume : array (X, Y, Z)
    relevances : mapping of str to array (X, Y, Z)
        By label, such as "k = 3".
    thresholds : sequence of float
        One for each map.
    affine : array (4, 4)
    slices, axis, colormap, title
        As in `relevance_against_weights`.

    Returns
    -------
    Figure
    """
    view = View(axis, affine)
    size = (3.1 * len(relevances), 2.2 * len(slices) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(slices), len(relevances), squeeze=False)
    for column, ((label, relevance), threshold) in enumerate(
        zip(relevances.items(), thresholds, strict=True)
    ):
        scale = Scale.of(relevance, threshold=threshold, colormap=colormap)
        for row, number in enumerate(slices):
            draw_slice(grid[row, column], view, number, volume, relevance, scale)
            name = f"{label}, {view.name(number)}"
            grid[row, column].set_title(name, fontsize=7)
        draw_scale(figure, list(grid[:, column]), scale, RELEVANCE)
    return figure


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _strongest(relevance: Volume, axis: int, count: int) -> NDArray[np.int64]:
    """Slices of the largest absolute relevance, at least a few voxels apart, in their order."""
    strength = np.nansum(np.abs(relevance), axis=_others(axis))
    apart = max(1, len(strength) // (3 * count))
    chosen: list[int] = []
    for number in np.argsort(-strength):
        if all(abs(number - other) >= apart for other in chosen):
            chosen.append(int(number))
        if len(chosen) == count:
            break
    return np.sort(np.array(chosen))


def _outline(view: View, axis: int, inside: NDArray[np.int64], shape: tuple[int, ...]) -> Rectangle:
    """Outline of the slab on a slice along another axis."""
    first, last = float(inside[0]), float(inside[-1])
    across, up = _others(view.axis)
    if axis == across:
        corner, width, height = (first - 0.5, -0.5), last - first + 1, float(shape[up])
    else:
        rows = sorted(view.row_of(shape[up], voxel) for voxel in (first, last))
        corner, width, height = (-0.5, rows[0] - 0.5), float(shape[across]), last - first + 1
    return Rectangle(corner, width, height, fill=False, edgecolor="gold", linewidth=0.7)
