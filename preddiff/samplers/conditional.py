"""The conditional sampler: draws from a patch Gaussian, conditioned on the surroundings."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from preddiff.errors import InputError
from preddiff.samplers.draws import window_voxels
from preddiff.samplers.exact_form import sparse_rows
from preddiff.samplers.gaussian import Gaussian
from preddiff.windows import Block, FloatArray, IntArray, Surroundings, Windows, offsets

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Conditional:
    """Redraws windows from a patch Gaussian, conditioned on the surroundings (section 3.1).

    Attributes
    ----------
    gaussian : PatchGaussian or LocatedPatchGaussian
    clip : (float, float), optional
        Range that draws are clipped to, as in the published implementation; not in the paper.
    """

    random: ClassVar[bool] = True

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
        """Draw from the conditional distributions; see `Sampler.draw`.

        Raises
        ------
        InputError
            If the Gaussian does not fit the input or the windows.
        """
        size = len(x) * windows.k ** (x.ndim - 1)
        draws = torch.randn((block.size, samples, size), generator=generator)
        for members, mean, factor in self._moments(x.cpu(), windows, block):
            redrawn = draws[members] @ factor.T
            redrawn += mean[:, None]
            draws[members] = redrawn
        if self.clip is not None:
            draws.clamp_(*self.clip)
        return draws.to(x.device)

    def fill(self, x: Tensor, windows: Windows) -> Tensor:
        """Replace the part of an input that has windows by the conditional means of these.

        Each window is conditioned on its surroundings in the intact input (channels, *space). Where
        windows overlap, the last one is used.
        """
        block = windows.everything
        voxels = torch.from_numpy(window_voxels(windows, block, len(x)))
        means = torch.empty(voxels.shape)
        for members, mean, _ in self._moments(x, windows, block):
            means[members] = mean
        if self.clip is not None:
            means.clamp_(*self.clip)
        return _filled(x, voxels, means)

    def normal_shift(
        self, weights: FloatArray, windows: Windows, block: Block
    ) -> "tuple[sparse.csr_array, FloatArray, FloatArray]":
        """Return the distribution of the shift of a weighted sum; see `HasNormalShift`.

        Raises
        ------
        InputError
            If draws are clipped.
        """
        if self.clip is not None:
            raise InputError(
                "clipped draws have no exact form: set the sampler's clip to false, or set the "
                "estimator to samples"
            )
        channels, *space = weights.shape
        surroundings = self._surroundings(windows, channels)
        first = np.ravel_multi_index(tuple(surroundings.first_voxels(block).T), tuple(space))
        voxels = first[:, None] + offsets(self.gaussian.l, tuple(space), channels)
        values = np.empty(voxels.shape)
        offset, variance = np.empty(block.size), np.empty(block.size)
        own = weights.reshape(-1)[window_voxels(windows, block, channels)]
        for (cell, *position), members in groups(self.gaussian, surroundings, block):
            found = self.gaussian.conditional(cell, windows.k, tuple(position))
            w = own[members]
            row = np.empty((len(members), voxels.shape[1]))
            row[:, found.inside] = -w
            row[:, ~found.inside] = w @ found.weights
            values[members] = row
            offset[members] = w @ found.offset
            variance[members] = np.einsum("ni,ij,nj->n", w, found.covariance, w, optimize=True)
        # Rounding may leave the variance of a window without weights just below zero.
        deviation = np.sqrt(np.maximum(variance, 0))
        return sparse_rows(values, voxels, weights.size), offset, deviation

    def _surroundings(self, windows: Windows, channels: int) -> Surroundings:
        if self.gaussian.channels != channels:
            raise InputError(
                f"the Gaussian was fitted on items of {self.gaussian.channels} channels, "
                f"the input has {channels}"
            )
        return Surroundings(windows, self.gaussian.l)

    def _moments(
        self, x: Tensor, windows: Windows, block: Block
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield numbers of windows in the block, their means, and the common factor of their draws.

        The input lies on the host.
        """
        channels, *space = x.shape
        surroundings = self._surroundings(windows, channels)
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
    """Group the windows of a block by the parameters of their conditional distributions.

    Yields
    ------
    key : list of int
        Cell of the Gaussian, followed by the position of the windows in their surroundings.
    members : int64 array
        Numbers of the windows within the block.
    """
    cells = gaussian.cells(surroundings.first_voxels(block))
    keys = np.column_stack([cells, surroundings.positions(block)])
    unique, member_of = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(member_of, kind="stable")
    ends = np.cumsum(np.bincount(member_of.reshape(-1)))
    for key, members in zip(unique, np.split(order, ends[:-1]), strict=True):
        yield [int(part) for part in key], members


def _filled(x: Tensor, voxels: Tensor, values: Tensor) -> Tensor:
    """Copy an input and set voxels (windows, m) to values (windows, m), window by window."""
    filled = x.reshape(-1).clone()
    for place, value in zip(voxels, values, strict=True):
        filled[place] = value
    return filled.reshape(x.shape)
