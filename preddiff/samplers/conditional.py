"""The conditional sampler: a window given its surroundings, from a Gaussian over patches."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from preddiff.samplers.base import window_voxels
from preddiff.samplers.gaussian import Gaussian
from preddiff.windows import Block, IntArray, Surroundings, Windows, offsets


@dataclass(frozen=True)
class Conditional:
    """Redraws a window from its patch Gaussian, given its surroundings (section 3.1 of the paper).

    Attributes
    ----------
    gaussian : PatchGaussian or LocatedPatchGaussian
    clip : (float, float), optional
        Range that draws are cut to, as the published implementation does; not in the paper.
    """

    gaussian: Gaussian
    clip: tuple[float, float] | None = None
    _prepared: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw from the conditional distributions; see `Sampler.draw`."""
        size = len(x) * windows.k ** (x.ndim - 1)
        draws = torch.randn((block.size, samples, size), generator=generator)
        for members, mean, factor in self._moments(x.cpu(), windows, block):
            draws[members] = mean[:, None] + draws[members] @ factor.T
        if self.clip is not None:
            draws.clamp_(*self.clip)
        return draws.to(x.device)

    def fill(self, x: Tensor, windows: Windows) -> Tensor:
        """Replace all of an input (channels, *space) by the conditional means of windows.

        Each mean is given the surroundings in the intact input. Where windows overlap, the last
        one counts.
        """
        block = windows.everything
        voxels = torch.from_numpy(window_voxels(windows, block, len(x)))
        means = torch.empty(voxels.shape)
        for members, mean, _ in self._moments(x, windows, block):
            means[members] = mean
        if self.clip is not None:
            means.clamp_(*self.clip)
        return _filled(x, voxels, means)

    def _moments(
        self, x: Tensor, windows: Windows, block: Block
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Windows of a block, as numbers; their means; the factor that their draws share.

        The input lies on the host.
        """
        channels, *space = x.shape
        surroundings = Surroundings(windows, self.gaussian.l)
        first = np.ravel_multi_index(tuple(surroundings.first_voxels(block).T), tuple(space))
        voxels = offsets(self.gaussian.l, tuple(space), channels)
        for (cell, *position), members in groups(self.gaussian, surroundings, block):
            around, weights, offset, factor = self._conditional(cell, windows.k, tuple(position))
            patches = x.reshape(-1)[torch.from_numpy(first[members, None] + voxels)]
            mean = patches[:, around] @ weights.T + offset
            yield torch.from_numpy(members), mean, factor

    def _conditional(
        self, cell: int, k: int, position: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Voxels of the surroundings in the patch, weights, offset and factor."""
        key = (cell, k, *position)
        if key not in self._prepared:
            found = self.gaussian.conditional(cell, k, position)
            self._prepared[key] = (
                torch.from_numpy(np.flatnonzero(~found.inside)),
                torch.from_numpy(found.weights).float(),
                torch.from_numpy(found.offset).float(),
                torch.from_numpy(found.factor).float(),
            )
        return self._prepared[key]


def groups(
    gaussian: Gaussian, surroundings: Surroundings, block: Block
) -> Iterator[tuple[list[int], IntArray]]:
    """Windows of a block that share their conditional distribution's parameters.

    Yields
    ------
    key : list of int
        Cell of the Gaussian, then the position of the window in its surroundings.
    members : int64 array
        The windows, as numbers within the block.
    """
    cells = gaussian.cells(surroundings.first_voxels(block))
    keys = np.column_stack([cells, surroundings.positions(block)])
    unique, member_of = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    ends = np.cumsum(np.bincount(member_of.reshape(-1)))
    for key, members in zip(unique, np.split(order, ends[:-1]), strict=True):
        yield [int(part) for part in key], members


def _filled(x: Tensor, voxels: Tensor, values: Tensor) -> Tensor:
    """Copy of an input with values (windows, m) at voxels (windows, m); later windows count."""
    filled = x.reshape(-1).clone()
    for place, value in zip(voxels, values, strict=True):
        filled[place] = value
    return filled.reshape(x.shape)
