"""Samplers: what redraws a window. Conditional (global or by location), marginal, grey."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.errors import InputError
from preddiff.gaussian import Gaussian
from preddiff.windows import Block, IntArray, Surroundings, Windows, offsets


def generator(
    seed: int, item: str, block: Block, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Source of the draws of one block of one item.

    Draws are a function of seed, item and block alone: never of batch size, shard or restart. A
    GPU draws other numbers than a CPU.
    """
    return torch.Generator(device).manual_seed(seed_of(seed, item, block.number))


def seed_of(*parts: int | str) -> int:
    """Seed for one of many sources of random numbers, from what names it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Sampler(Protocol):
    """What redraws a window."""

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw the windows of a block anew.

        Parameters
        ----------
        x : float32 tensor (channels, *space)
            The intact input, on the device where draws are made.
        item : str
            Name of the item.
        windows : Windows
        block : Block
        samples : int
            Number S of draws per window.
        generator : torch.Generator
            On the input's device.

        Returns
        -------
        float32 tensor (windows in block, S or 1, channels * k**d)
            1 where the sampler is not random.
        """
        ...


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
        draws = torch.randn((block.size, samples, size), generator=generator, device=x.device)
        for members, mean, factor in self._moments(x, windows, block):
            draws[members] = mean[:, None] + draws[members] @ factor.T
        return draws if self.clip is None else draws.clamp_(*self.clip)

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
        """Windows of a block, as numbers; their means; the factor that their draws share."""
        channels, *space = x.shape
        surroundings = Surroundings(windows, self.gaussian.l)
        first = np.ravel_multi_index(tuple(surroundings.first_voxels(block).T), tuple(space))
        voxels = offsets(self.gaussian.l, tuple(space), channels)
        for (cell, *position), members in groups(self.gaussian, surroundings, block):
            inside, weights, offset, factor = (
                part.to(x.device) for part in self._conditional(cell, windows.k, tuple(position))
            )
            patches = x.reshape(-1)[torch.from_numpy(first[members, None] + voxels).to(x.device)]
            mean = patches[:, ~inside] @ weights.T + offset
            yield torch.from_numpy(members).to(x.device), mean, factor

    def _conditional(
        self, cell: int, k: int, position: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        key = (cell, k, *position)
        if key not in self._prepared:
            found = self.gaussian.conditional(cell, k, position)
            self._prepared[key] = (
                torch.from_numpy(found.inside),
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


@dataclass(frozen=True)
class Marginal:
    """Redraws a window by what other items have at the same place.

    Attributes
    ----------
    donors : array (n, channels, *space)
        Values, in units of `scale`.
    names : sequence of str
        Names of the donors: an item never lends to itself.
    scale : float
        What donors are multiplied with: images are kept as 8-bit numbers.
    """

    donors: NDArray[Any]
    names: Sequence[str]
    scale: float = 1.0

    def others(self, item: str) -> IntArray:
        """Donors that are not the item itself.

        Raises
        ------
        InputError
            If there are none.
        """
        chosen = np.flatnonzero(np.asarray(self.names) != item)
        if not len(chosen):
            raise InputError(f"item '{item}': the marginal sampler needs at least one other item")
        return chosen

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw donors at random, for each window anew; see `Sampler.draw`."""
        others = torch.from_numpy(self.others(item))
        drawn = torch.randint(
            len(others), (block.size, samples), generator=generator, device=generator.device
        )
        chosen = others[drawn.cpu()]
        voxels = torch.from_numpy(window_voxels(windows, block, len(x)))
        donors = torch.from_numpy(self.donors).reshape(len(self.donors), -1)
        values = donors[chosen[..., None], voxels[:, None, :]].to(x.device).float()
        return values if self.scale == 1 else values * self.scale


@dataclass(frozen=True)
class Grey:
    """Replaces a window by a constant: occlusion, for comparison.

    Attributes
    ----------
    value : float
    """

    value: float

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Fill with the constant; see `Sampler.draw`."""
        size = x.shape[0] * windows.k ** (x.ndim - 1)
        return torch.full((block.size, 1, size), self.value, device=x.device)

    def fill(self, x: Tensor, windows: Windows) -> Tensor:
        """Replace all of an input by the constant."""
        return torch.full_like(x, self.value)


def _filled(x: Tensor, voxels: Tensor, values: Tensor) -> Tensor:
    """Copy of an input with values (windows, m) at voxels (windows, m); later windows count."""
    filled = x.reshape(-1).clone()
    for place, value in zip(voxels, values, strict=True):
        filled[place] = value
    return filled.reshape(x.shape)


def window_voxels(windows: Windows, block: Block, channels: int) -> IntArray:
    """Voxels of a block's windows in the flattened input (channels, *space).

    Returns
    -------
    int64 array (windows in block, channels * k**d)
    """
    first = np.ravel_multi_index(tuple(windows.first_voxels(block).T), windows.space)
    voxels: IntArray = first[:, None] + offsets(windows.k, windows.space, channels)
    return voxels
