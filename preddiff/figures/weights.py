"""Figure 9 of the paper: relevance and the classifier's weights on one subject."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from preddiff.figures.base import FIGURES
from preddiff.figures.overlay import Scale, View, draw_scale, draw_slice
from preddiff.figures.volume_maps import (
    OneSubject,
    Slices,
    VolumeFigureSettings,
    VolumeMaps,
    subject_of,
)

WEIGHTS = "weights of the classifier"


@FIGURES.register
class Weights(VolumeFigureSettings, OneSubject, Slices):
    """Relevance and the classifier's weights on one subject (figure 9)."""

    kind: Literal["weights"] = Field(description="weights")

    def draw(self, maps: Sequence[VolumeMaps]) -> Figure:
        """Draw the figure of one explanation."""
        one = maps[0]
        slices = one.slices(self.slices)
        name = subject_of(maps, self.item)
        return relevance_against_weights(
            one.volume(name),
            one.relevance(name),
            one.weights(),
            one.items.affine,
            slices=slices,
            axis=one.axis,
            threshold=self.threshold,
            colormap=self.colormap,
            scale_label=one.scale_label,
            title=one.label(name).replace("\n", ", "),
        )


def relevance_against_weights(
    volume: NDArray[np.floating],
    relevance: NDArray[np.floating],
    weights: NDArray[np.floating],
    affine: NDArray[np.floating],
    *,
    slices: Sequence[int],
    axis: int,
    threshold: float,
    colormap: str,
    scale_label: str,
    title: str,
) -> Figure:
    """Draw the relevance and the classifier's weights on one subject.

    Parameters
    ----------
    volume, relevance, weights : array (X, Y, Z)
        Anatomy, and maps that are NaN outside the classifier's slab.
    affine : array (4, 4)
        From voxels to millimetres.
    slices, axis
        Slices to show, each on the anatomy and on the anatomy in reversed grey values.
    threshold : float
        Share of a map's absolute maximum below which values are not shown.
    colormap, scale_label : str
    title : str

    Returns
    -------
    Figure
    """
    view = View(axis, affine)
    figure = Figure(figsize=(2.1 * 2 * len(slices) + 1.2, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(2, 2 * len(slices), squeeze=False)
    for row, (values, label) in enumerate([(relevance, scale_label), (weights, WEIGHTS)]):
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
