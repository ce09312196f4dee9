"""Base class and registry of the kinds of figures."""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from matplotlib import colormaps
from matplotlib.figure import Figure
from pydantic import Field, field_validator

from preddiff.registry import Registry
from preddiff.settings.base import Name, Settings, Share
from preddiff.storage.stores import PROVENANCE

if TYPE_CHECKING:
    from preddiff.methods.base import MethodSettings


class FigureSettings(Settings):
    """A figure of one or several explanations.

    Attributes
    ----------
    dimensions : int
        Number of spatial axes of the items that it shows.
    shows_several : bool
        Whether it shows several explanations instead of one.
    """

    dimensions: ClassVar[int]
    shows_several: ClassVar[bool] = False

    explanations: list[Name] = Field(
        description="explanations to show: one, or several for figures that compare them",
        min_length=1,
    )
    threshold: Share = Field(
        0.15,
        description="voxels are shown if their magnitude exceeds this share of the maximum; in "
        "figures of kind patch-sizes, at most 0.1 for k up to 2",
    )
    colormap: str = Field(
        "RdBu_r",
        description="Matplotlib colour map; default: red for, blue against",
    )

    @field_validator("colormap")
    @classmethod
    def _known_colormap(cls, name: str) -> str:
        if name not in colormaps:
            near = difflib.get_close_matches(name, list(colormaps), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"Matplotlib has no colour map '{name}'{hint}")
        return name

    def problem_with(self, explanations: "Sequence[MethodSettings]") -> str | None:
        """Explain why the figure cannot show some explanations; None if it can."""
        if len(explanations) > 1 and not self.shows_several:
            return "this kind of figure shows one explanation"
        return None

    def draw(self, maps: Sequence[Any]) -> Figure:
        """Draw the figure.

        Parameters
        ----------
        maps : sequence of VolumeMaps or ImageMaps
            One for each explanation; which type depends on the figure's dimensions.

        Returns
        -------
        Figure

        Raises
        ------
        InputError
            If an item, a target or a slice does not exist.
        """
        raise NotImplementedError


def window_side(about: Mapping[str, Any]) -> int | None:
    """Return the side of the windows of a relevance store; None for methods without windows.

    Parameters
    ----------
    about : mapping
        Attributes of the store. Only relevance from expectations has windows.
    """
    return int(about["k"]) if "expectations" in about[PROVENANCE] else None


def titled(name: str, windows: int | None) -> str:
    """Return the title of an explanation's maps: its name, and the side of its windows if any."""
    return name if windows is None else f"{name} (k = {windows})"


FIGURES: Registry[type[FigureSettings]] = Registry("preddiff.figures")
