"""Figure 10 of the paper: one slice of several subjects of each class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from preddiff.figures.base import FIGURES
from preddiff.figures.overlay import PLANES, Scale, View, draw_scale, draw_slice
from preddiff.figures.volume_maps import Slices, VolumeFigureSettings, VolumeMaps
from preddiff.settings.base import Positive


@FIGURES.register
class Subjects(VolumeFigureSettings, Slices):
    """One slice of several subjects of each class (figure 10): the last of `slices`."""

    kind: Literal["subjects"] = Field(description="subjects")
    per_class: Positive = Field(4, description="number of subjects of each class")

    def draw(self, maps: Sequence[VolumeMaps]) -> Figure:
        """Draw the figure of one explanation."""
        one = maps[0]
        slices = one.slices(self.slices)
        chosen = [one.of_group(label)[: self.per_class] for label in one.items.classes]
        names = [name for group in chosen for name in group]
        # Of a value that is predicted, there are no classes.
        names = names or one.names[: 2 * self.per_class]
        return subjects(
            [one.volume(name) for name in names],
            [one.relevance(name) for name in names],
            [one.label(name) for name in names],
            one.items.affine,
            columns=self.per_class,
            number=slices[-1],
            axis=one.axis,
            threshold=self.threshold,
            colormap=self.colormap,
            scale_label=one.scale_label,
        )


def subjects(
    volumes: Sequence[NDArray[np.floating]],
    relevances: Sequence[NDArray[np.floating]],
    labels: Sequence[str],
    affine: NDArray[np.floating],
    *,
    columns: int,
    number: int,
    axis: int,
    threshold: float,
    colormap: str,
    scale_label: str,
) -> Figure:
    """Draw one slice of several subjects of all classes, all on the same scale.

    Parameters
    ----------
    volumes, relevances : sequence of array (X, Y, Z)
    labels : sequence of str
        Names of the subjects, with class and prediction.
    affine : array (4, 4)
    columns : int
        Number of subjects in a row.
    number, axis : int
        Number of the slice, and its axis.
    threshold, colormap
        Share of the absolute maximum below which relevance is not shown, and name of a Matplotlib
        colour map.
    scale_label : str

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
    draw_scale(figure, list(grid.flat), scale, scale_label)
    return figure
