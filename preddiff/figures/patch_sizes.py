"""Figure 12 of the paper: relevance of one subject for several window sizes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from preddiff.figures.base import FIGURES
from preddiff.figures.overlay import Scale, View, draw_scale, draw_slice, labelled
from preddiff.figures.volume_maps import (
    OneSubject,
    Slices,
    VolumeFigureSettings,
    VolumeMaps,
    subject_of,
)

# For the smallest windows (k = 2), the paper uses a threshold of 10% of the maximum.
_THRESHOLD_SMALL_WINDOWS = 0.10


@FIGURES.register
class PatchSizes(VolumeFigureSettings, OneSubject, Slices):
    """Relevance of one subject for several explanations, each on its own scale (figure 12)."""

    shows_several: ClassVar[bool] = True

    kind: Literal["patch-sizes"] = Field(description="patch-sizes")

    def draw(self, maps: Sequence[VolumeMaps]) -> Figure:
        """Draw the figure of several explanations."""
        slices = maps[0].slices(self.slices)
        name = subject_of(maps, self.item)
        thresholds = [
            min(self.threshold, _THRESHOLD_SMALL_WINDOWS)
            if one.k is not None and one.k <= 2
            else self.threshold
            for one in maps
        ]
        labels = [labelled(one.path.stem, one.k) for one in maps]
        who, *predictions = zip(*(one.label(name).split("\n") for one in maps), strict=True)
        title = maps[0].label(name).replace("\n", ", ")
        if any(len(set(shown)) > 1 for shown in predictions):
            # Of several classifiers, each map has its own prediction.
            title = who[0]
            labels = [
                f"{label}\n{shown}" for label, shown in zip(labels, predictions[0], strict=True)
            ]
        return patch_sizes(
            maps[0].volume(name),
            {label: one.relevance(name) for label, one in zip(labels, maps, strict=True)},
            thresholds,
            [one.scale_label for one in maps],
            maps[0].items.affine,
            slices=slices,
            axis=maps[0].axis,
            colormap=self.colormap,
            title=title,
        )


def patch_sizes(
    volume: NDArray[np.floating],
    relevances: Mapping[str, NDArray[np.floating]],
    thresholds: Sequence[float],
    scale_labels: Sequence[str],
    affine: NDArray[np.floating],
    *,
    slices: Sequence[int],
    axis: int,
    colormap: str,
    title: str,
) -> Figure:
    """Draw the relevance of one subject for several window sizes, each on its own scale.

    Parameters
    ----------
    volume : array (X, Y, Z)
    relevances : mapping of str to array (X, Y, Z)
        Maps by label, such as "k = 3".
    thresholds : sequence of float
        One threshold for each map.
    scale_labels : sequence of str
        Label of each map's scale.
    affine : array (4, 4)
    slices : sequence of int
    axis : int
        Axis of the slices.
    colormap, title : str

    Returns
    -------
    Figure
    """
    view = View(axis, affine)
    size = (3.1 * len(relevances), 2.2 * len(slices) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(slices), len(relevances), squeeze=False)
    for column, ((label, relevance), threshold, scale_label) in enumerate(
        zip(relevances.items(), thresholds, scale_labels, strict=True)
    ):
        scale = Scale.of(relevance, threshold=threshold, colormap=colormap)
        for row, number in enumerate(slices):
            draw_slice(grid[row, column], view, number, volume, relevance, scale)
            name = f"{label}, {view.name(number)}"
            grid[row, column].set_title(name, fontsize=7)
        draw_scale(figure, list(grid[:, column]), scale, scale_label)
    return figure
