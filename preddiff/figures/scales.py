"""Figure of how much of a window its surroundings foretell, by side of the window."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from preddiff.samplers.foretold import TOO_MUCH, Foretold

_COLOUR, _FAINT = "tab:blue", "0.92"


def draw_scales(found: Sequence[Foretold], title: str) -> Figure:
    """Draw the share of a window's variance that its surroundings leave open.

    Parameters
    ----------
    found : sequence of Foretold
        In the order of the sides.
    title : str

    Returns
    -------
    Figure
        The share is on a logarithmic scale; the axis on the right shows the share that is foretold.
    """
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    sides = [one.k for one in found]
    shares = np.array([one.share_remaining for one in found])
    axes.semilogy(sides, shares, "o-", color=_COLOUR)
    if any(len(one.cells) > 1 for one in found):
        cells = [(one.cells.min(), one.cells.max()) for one in found]
        low, high = np.array(cells).T
        axes.fill_between(sides, low, high, color=_COLOUR, alpha=0.2, label="range over cells")
        axes.legend(loc="lower right", fontsize=7)
    bottom = min(shares.min() / 3, (1 - TOO_MUCH) / 10)
    axes.axhspan(bottom, 1 - TOO_MUCH, color=_FAINT, zorder=0)
    note = f"more than {TOO_MUCH:.0%} foretold: maps show next to nothing"
    axes.text(0.98, 0.03, note, transform=axes.transAxes, ha="right", fontsize=7, color="0.35")
    labels = [f"{one.k}\n({one.l})" for one in found]
    axes.set(ylim=(bottom, 1.5), xlabel="side k of the window (side l of its surroundings), voxels")
    axes.set_xticks(sides, labels)
    axes.set_ylabel("share of the variance that remains")
    right = axes.secondary_yaxis("right")
    right.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * (1 - share):.10g}%"))
    right.set_ylabel("share that the surroundings foretell")
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize=9)
    return figure
