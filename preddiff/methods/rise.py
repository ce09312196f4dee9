"""RISE: randomised input sampling for explanation (Petsiuk, Das, Saenko 2018)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from preddiff.methods.base import METHODS, Maps, MethodSettings, Nodes
from preddiff.methods.fills import Fill, filled
from preddiff.settings.base import Positive
from preddiff.targets import Target

_BATCH = 32
# Modes of torch's linear interpolation, by number of spatial axes.
_MODES = {2: "bilinear", 3: "trilinear"}


@METHODS.register
class Rise(MethodSettings):
    """RISE (Petsiuk et al. 2018): means of a target's value over random masks."""

    is_random: ClassVar[bool] = True
    # A mean of values, weighted by masks; all positive for probabilities.
    shows_evidence: ClassVar[bool] = False
    # Of 4000 masks.
    seconds_per_item: ClassVar[float] = 60.0

    method: Literal["rise"] = Field(description="rise")
    masks: int = Field(4000, description="number of random masks", ge=2, lt=2**31)
    cells: Positive = Field(
        7, description="number of cells of a mask along each axis, before it is upsampled"
    )
    probability: float = Field(0.5, description="probability that a cell is kept", gt=0, lt=1)
    fill: Fill = Field(
        "zero",
        description="what replaces hidden voxels: zero, the item's mean in each channel, or the "
        "blurred item",
    )

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Average the values of the targets over masks, for each voxel.

        Section 3.1 of the paper: with masks M, whose mean is p, the map is the mean of f(x') M / p
        over masks, where x' = M x + (1 - M) fill. The paper fills with 0. The standard error is
        that of this mean.
        """
        with torch.no_grad():
            values = nodes(x[None].clone(), item)[0]
            masks = random_masks(x.shape[1:], self.masks, self.cells, self.probability, seed)
            weighted = mean_and_error(
                partial(nodes, item=item), x, filled(x, self.fill), masks, self.probability
            )
        return Maps(values, *weighted)


def random_masks(
    space: Sequence[int], number: int, cells: int, probability: float, seed: int
) -> Iterator[Tensor]:
    """Draw random masks (section 3.2 of the paper), in batches.

    A grid of cells, each of which is 1 with some probability and 0 otherwise, is upsampled linearly
    to one cell more than the input along each axis, and cut to the input's shape at a random
    shift within a cell. The mean of a mask is `probability` at each voxel.

    Parameters
    ----------
    space : sequence of int
    number : int
    cells : int
        Cells along each axis.
    probability : float
    seed : int
        Masks are drawn on the host, so they do not depend on the device.

    Yields
    ------
    float32 tensor (n, *space)
    """
    generator = torch.Generator().manual_seed(seed)
    sides = [-(-n // cells) for n in space]
    size = [(cells + 1) * side for side in sides]
    for first in range(0, number, _BATCH):
        count = min(_BATCH, number - first)
        uniform = torch.rand((count, 1, *(cells,) * len(space)), generator=generator)
        grids = functional.interpolate(
            (uniform < probability).float(), size, mode=_MODES[len(space)], align_corners=False
        )
        shifts = [torch.randint(side, (count,), generator=generator).tolist() for side in sides]
        yield torch.stack(
            [
                grid[0][tuple(slice(s, s + n) for s, n in zip(shift, space, strict=True))]
                for grid, *shift in zip(grids, *shifts, strict=True)
            ]
        )


def mean_and_error(
    values: Callable[[Tensor], Tensor],
    x: Tensor,
    fill: Tensor,
    masks: Iterator[Tensor],
    probability: float,
) -> tuple[Tensor, Tensor]:
    """Average values over masked inputs, weighted by the masks.

    Parameters
    ----------
    values : callable
        Function from inputs (n, channels, *space) to values (n, targets).
    x, fill : tensor (channels, *space)
    masks : iterator of tensor (n, *space)
    probability : float
        Mean of the masks.

    Returns
    -------
    mean, error : float64 tensor (targets, *space)
        Mean of value * mask / probability over the masks, and its standard error.
    """
    count = 0
    sums = squares = torch.zeros((), dtype=torch.float64, device=x.device)
    for batch in masks:
        kept = batch.to(x)
        found = values(fill + kept[:, None] * (x - fill)).double()
        flat = kept.double().flatten(1)
        sums = sums + found.T @ flat
        squares = squares + found.T.square() @ flat.square()
        count += len(kept)
    mean = sums / count
    variance = (squares / count - mean.square()).clamp(min=0) * count / (count - 1)
    shape = (-1, *x.shape[1:])
    return (
        (mean / probability).reshape(shape),
        ((variance / count).sqrt() / probability).reshape(shape),
    )
