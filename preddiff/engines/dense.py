"""The dense engine: any classifier, one forward pass per draw."""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preddiff.classifiers.standardisation import Standardisation
from preddiff.engines.base import Progress, no_progress, over_draws, over_parts, require_finite
from preddiff.engines.seen import seen_draws, seen_voxels
from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.samplers.draws import Sampler
from preddiff.windows import Block, FloatArray, Windows

Nodes = Callable[[Tensor, str], Tensor]

# In messages of errors that torch raises as RuntimeError: of the host, cuDNN and cuBLAS.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class Dense:
    """Expectations over S draws by S forward passes per window (Algorithm 1 of the paper).

    Draws are made on the host. Everything that follows happens on the device until the expectations
    of the block are complete, so that a GPU does not wait for the host in between.

    Parameters
    ----------
    nodes : callable
        Maps float32 inputs (n, channels, *space), all variants of one item, and the name of the
        item to the values of the targets (n, targets).
    sampler : Sampler
    windows : Windows
        Of what the sampler sees; the classifier sees the part `windows.view` of it.
    samples : int
        Number S of draws.
    seed : int
    batch_size : int, optional
        Inputs per forward pass, which does not change the draws. The default depends on the
        device. It is halved whenever there is not enough memory.
    standardisation : Standardisation, optional
        Converts the units of the sampler to those of the nodes.
    device : torch.device or str
        Where forward passes are made.
    """

    batch = 1

    # On a CPU, larger batches are no faster, since activations no longer fit into the caches. A GPU
    # is busy with as many as these.
    usual_batch_size: Mapping[str, int] = {"cpu": 32, "cuda": 512}

    def __init__(
        self,
        nodes: Nodes,
        sampler: Sampler,
        windows: Windows,
        samples: int,
        seed: int,
        batch_size: int | None = None,
        *,
        standardisation: Standardisation | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.nodes = nodes
        self.sampler = sampler
        self.windows = windows
        self.samples = samples
        self.seed = seed
        self.device = torch.device(device)
        self.batch_size = batch_size or self.usual_batch_size.get(self.device.type, 32)
        self.standardisation = standardisation

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
        samples: int | None = None,
    ) -> Expectations:
        """Estimate expectations; see `Engine.expectations`.

        Parameters
        ----------
        x, items, block, progress
            See `Engine.expectations`.
        samples : int, optional
            Number S of draws for this block; default: that of the engine.

        Raises
        ------
        InputError
            If the output of the classifier is not one finite number per target, or there is not
            enough memory for a single input.
        """
        parts = [
            self._item(torch.from_numpy(one), item, block, progress, samples or self.samples)
            for one, item in zip(x, items, strict=True)
        ]
        references, changes, variances = zip(*parts, strict=True)
        found = Expectations(np.stack(references), np.stack(changes), np.stack(variances))
        return require_finite(found, items)

    @torch.inference_mode()
    def _item(
        self, x: Tensor, item: str, block: Block, progress: Progress, samples: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        image = self.windows.cut(x).contiguous().to(self.device)
        if self.standardisation is not None:
            image = self.standardisation.image(image)

        def evaluate(part: Block, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            draws = draws.to(self.device)
            if self.standardisation is not None:
                draws = self.standardisation.patches(draws)
            draws = seen_draws(image, draws, self.windows, part)
            reference, values = self._all_passes(image, draws, part, item, progress)
            changes = values.reshape(part.size, draws.shape[1], -1) - reference
            return reference, *over_draws(changes)

        found = over_parts(evaluate, self.sampler, x, item, self.windows, block, samples, self.seed)
        references, means, variances = zip(*found, strict=True)
        shape = (-1, *block.shape)
        return (
            references[0].cpu().numpy(),
            torch.cat(means).T.reshape(shape).cpu().numpy(),
            torch.cat(variances).T.reshape(shape).cpu().numpy(),
        )

    def _all_passes(
        self, x: Tensor, draws: Tensor, block: Block, item: str, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Values of the targets: of the input (targets,), and (windows * draws, targets)."""
        # A copy, for a network may change its input in place.
        reference = self._evaluate(x[None].clone(), item)[0]
        voxels = torch.from_numpy(seen_voxels(self.windows, block, len(x))).to(self.device)
        samples = draws.shape[1]
        flat = draws.reshape(-1, draws.shape[2])
        found: list[Tensor] = []
        done = 0
        while done < len(flat):
            part = torch.arange(done, min(done + self.batch_size, len(flat)), device=self.device)
            values = self._attempt(
                item,
                lambda: self._evaluate(redrawn(x, flat[part], voxels[part // samples]), item),  # noqa: B023
            )
            if values is not None:
                found.append(values)
                done += len(part)
                progress(len(part) / samples)
        return reference, torch.cat(found)

    def _attempt(self, item: str, evaluate: Callable[[], Tensor]) -> Tensor | None:
        """Evaluate a batch; if there is not enough memory, make the next ones smaller."""
        try:
            return evaluate()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except clause, in which the failed pass is still in memory.
        self._take_smaller_batches(item)
        return None

    def _take_smaller_batches(self, item: str) -> None:
        if self.batch_size == 1:
            raise InputError(too_little_memory(item))
        self.batch_size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        print(
            f"out of memory: continuing with {self.batch_size} inputs per forward pass",
            file=sys.stderr,
        )

    def _evaluate(self, x: Tensor, item: str) -> Tensor:
        values = self.nodes(x, item)
        if values.ndim != 2 or len(values) != len(x):
            raise InputError(
                f"the classifier returned an output of shape {tuple(values.shape)} for {len(x)} "
                "inputs: it must return one row of numbers for each input"
            )
        return values.double()


def redrawn(x: Tensor, draws: Tensor, voxels: Tensor) -> Tensor:
    """Copy the input, with windows replaced by draws.

    Parameters
    ----------
    x : tensor (channels, *space)
    draws : tensor (n, m)
    voxels : int64 tensor (n, m)
        Voxels of the windows in the flattened input.

    Returns
    -------
    tensor (n, channels, *space)
    """
    copies = x.reshape(1, -1).repeat(len(draws), 1)
    copies.scatter_(1, voxels, draws)
    return copies.reshape(len(draws), *x.shape)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch raised an error because there is not enough memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        text in str(error) for text in _OUT_OF_MEMORY
    )


def too_little_memory(item: str) -> str:
    """Error message if there is not enough memory for a single input."""
    return (
        f"item '{item}': not enough memory for a single input: use a device with more memory, or "
        "smaller inputs"
    )
