"""The dense engine: any classifier, one forward pass per draw."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.engines import Expectations, over_draws
from preddiff.errors import InputError
from preddiff.samplers import Sampler, generator, window_voxels
from preddiff.windows import Block, FloatArray, Windows

Nodes = Callable[[Tensor], Tensor]


class Dense:
    """Expectations over S draws by S forward passes per window (Algorithm 1 of the paper).

    Parameters
    ----------
    nodes : callable
        Takes float32 inputs (n, channels, *space) to the targets' values (n, targets).
    sampler : Sampler
    windows : Windows
    samples : int
        Number S of draws.
    seed : int
    batch_size : int
        Inputs per forward pass; does not change the draws.
    progress : callable, optional
        Called with the number of windows done since the last call.
    """

    batch = 1

    def __init__(
        self,
        nodes: Nodes,
        sampler: Sampler,
        windows: Windows,
        samples: int,
        seed: int,
        batch_size: int = 256,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.nodes = nodes
        self.sampler = sampler
        self.windows = windows
        self.samples = samples
        self.seed = seed
        self.batch_size = batch_size
        self.progress = progress

    def expectations(
        self, x: NDArray[np.float32], items: Sequence[str], block: Block
    ) -> Expectations:
        """Estimate expectations; see `Engine.expectations`.

        Raises
        ------
        InputError
            If the classifier's output is not one finite number per target.
        """
        parts = [
            self._item(torch.from_numpy(one), item, block)
            for one, item in zip(x, items, strict=True)
        ]
        references, changes, variances = zip(*parts, strict=True)
        return Expectations(np.stack(references), np.stack(changes), np.stack(variances))

    def _item(
        self, x: Tensor, item: str, block: Block
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        source = generator(self.seed, item, block)
        draws = self.sampler.draw(x, item, self.windows, block, self.samples, source)
        voxels = torch.from_numpy(window_voxels(self.windows, block, len(x)))
        reference = self._evaluate(x[None], item)[0]
        step = max(1, self.batch_size // draws.shape[1])
        means, variances = [], []
        for part in torch.split(torch.arange(block.size), step):
            values = self._evaluate(redrawn(x, draws[part], voxels[part]), item)
            changes = values.reshape(len(part), draws.shape[1], -1) - reference
            mean, variance = over_draws(changes)
            means.append(mean)
            variances.append(variance)
            if self.progress is not None:
                self.progress(len(part))
        shape = (-1, *block.shape)
        return (
            reference,
            np.concatenate(means).T.reshape(shape),
            np.concatenate(variances).T.reshape(shape),
        )

    def _evaluate(self, x: Tensor, item: str) -> FloatArray:
        with torch.inference_mode():
            values = self.nodes(x)
        if values.ndim != 2 or len(values) != len(x):
            raise InputError(
                f"the classifier took {len(x)} inputs to an output of shape "
                f"{tuple(values.shape)}: it must give one row of numbers for each input"
            )
        if not values.isfinite().all():
            raise InputError(f"item '{item}': the classifier's output is not finite")
        return values.double().cpu().numpy()


def redrawn(x: Tensor, draws: Tensor, voxels: Tensor) -> Tensor:
    """Put draws of windows into copies of the input.

    Parameters
    ----------
    x : tensor (channels, *space)
    draws : tensor (n, S, m)
    voxels : int64 tensor (n, m)
        The windows' voxels in the flattened input.

    Returns
    -------
    tensor (n * S, channels, *space)
    """
    n, samples, _ = draws.shape
    copies = x.reshape(1, 1, -1).repeat(n, samples, 1)
    copies.scatter_(2, voxels[:, None].expand(-1, samples, -1), draws)
    return copies.reshape(n * samples, *x.shape)
