"""The incremental engine: recomputes only what a window changes in a convolutional network."""

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode

from preddiff.classifiers.layers import OUTPUT
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.precision import arithmetic, keep_weights_in_bfloat16
from preddiff.engines.base import Progress
from preddiff.engines.dense import Dense, is_out_of_memory, redrawn, too_little_memory
from preddiff.engines.incremental.boxes import Boxes
from preddiff.engines.incremental.network import IncrementalNetwork
from preddiff.engines.seen import seen_voxels
from preddiff.errors import InputError
from preddiff.windows import Block, Box, IntArray, Windows

# Windows whose starts agree modulo the strides of a network have boxes of equal sizes. Boxes of
# others grow by a unit at most, which costs less than batches that are not full.
_ALIGNMENTS = (8, 4, 2, 1)
# Dense passes are cheaper where less than this share of the arithmetic can be saved.
_WORTHWHILE = 0.75
# Sums of the same numbers in another order may differ by this share of what a window changes, and
# by this share of the outputs themselves.
_TOLERANCE = 1e-3
_ROUNDING = 1e-5


class Incremental(Dense):
    """Expectations over S draws that recompute only what the windows change.

    It makes the same draws as the dense engine and differs from it by rounding only. On its first
    item, a few windows are evaluated in both ways: if they differ, little is saved or anything
    fails, the engine goes on densely and says why.

    Parameters
    ----------
    nodes : NetworkNodes
    *args, **kwargs
        See `Dense`.
    """

    usual_batch_size: Mapping[str, int] = {"cpu": 256, "cuda": 4096}

    nodes: NetworkNodes

    def __init__(self, nodes: NetworkNodes, *args: Any, **kwargs: Any) -> None:
        super().__init__(nodes, *args, **kwargs)
        self.network: IncrementalNetwork | None = None
        self._is_prepared = False

    def _all_passes(
        self, x: Tensor, draws: Tensor, block: Block, item: str, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        if not self._is_prepared:
            self._prepare(x, item)
        if self.network is None:
            return super()._all_passes(x, draws, block, item, progress)
        intact = self._intact(self.network, x)
        starts = self.windows.boxes(block)
        count = len(self.nodes.readout.targets)
        values = torch.empty((*draws.shape[:2], count), dtype=torch.float64, device=x.device)
        batches = _Batches(starts, draws.shape[1], self.batch_size)
        while (batch := batches.next(self.batch_size)) is not None:
            members = torch.from_numpy(batch.windows).to(x.device)
            found = self._attempt(
                item,
                functools.partial(
                    self._changed,
                    self.network,
                    intact,
                    draws[members, batch.draws],
                    starts[batch.windows],
                    item,
                ),
            )
            if found is None:
                batches.put_back(batch)
            else:
                values[members, batch.draws] = found.reshape(len(members), -1, count)
                progress(len(found) / draws.shape[1])
        # The reference is read off the same activations, so that rounding cancels.
        return self._read(self.network.reference(intact), item)[0], values.flatten(0, 1)

    def _intact(self, network: IncrementalNetwork, x: Tensor) -> Mapping[fx.Node, Any]:
        with self.nodes.arithmetic():
            return network.intact(_channels_last(x[None]))

    def _changed(
        self,
        network: IncrementalNetwork,
        intact: Mapping[fx.Node, Any],
        draws: Tensor,
        starts: IntArray,
        item: str,
    ) -> Tensor:
        """Values of the targets (windows * draws, targets) for draws (windows, draws, m)."""
        with self.nodes.arithmetic():
            outputs = network.outputs(intact, *self._boxed(draws, starts))
        return self._read(outputs, item)

    def _read(self, outputs: Mapping[str, Tensor], item: str) -> Tensor:
        return self.nodes.readout(outputs[OUTPUT], outputs, self.nodes.classes[item])

    def _boxed(self, draws: Tensor, starts: IntArray) -> tuple[Tensor, Boxes]:
        """Draws (windows, draws, m) as values of boxes."""
        sides = self.windows.box
        values = draws.reshape(draws.shape[0] * draws.shape[1], -1, *sides)
        return _channels_last(values), Boxes(starts, sides)

    def _prepare(self, x: Tensor, item: str) -> None:
        """Set up to recompute changes only, if that agrees with whole passes and saves work.

        Raises
        ------
        InputError
            If there is not enough memory to find out.
        """
        self._is_prepared = True
        try:
            network = IncrementalNetwork(self.nodes.traced())
            # In full precision, where rounding does not hide what is wrong.
            with arithmetic(self.device, "float32"):
                share = self._share_of_work(network, x)
        except Exception as error:
            # Whatever torch or the network raises: whole passes may still work.
            if is_out_of_memory(error):
                raise InputError(too_little_memory(item)) from error
            _report_dense(str(error) if isinstance(error, InputError) else _failure(error))
            return
        for node, operation in network.whole_map_operations.items():
            print(f"from {node} ({operation}) on, whole maps are computed", file=sys.stderr)
        if share is None:
            _report_dense("recomputing changes only gave other results")
            return
        if share > _WORTHWHILE:
            _report_dense(f"recomputing changes only would take {share:.0%} of its arithmetic")
            return
        if self.nodes.precision == "bfloat16":
            keep_weights_in_bfloat16(network.graph)
        self.network = network

    def _share_of_work(self, network: IncrementalNetwork, x: Tensor) -> float | None:
        """Share of the arithmetic of whole passes that changes take; None if results differ."""
        intact = network.intact(_channels_last(x[None]))
        # A copy, for a network may change its input in place.
        reference = self.nodes.outputs(x[None].clone())
        generator = torch.Generator().manual_seed(0)
        share = 1.0
        for window in _corners_and_middle(self.windows):
            voxels = torch.from_numpy(seen_voxels(self.windows, window, len(x))).to(x.device)
            draws = torch.randn((1, voxels.shape[1]), generator=generator).to(x)
            with FlopCounterMode(display=False) as whole:
                expected = self.nodes.outputs(redrawn(x, draws, voxels))
            with FlopCounterMode(display=False) as changed:
                boxed = self._boxed(draws[None], self.windows.boxes(window))
                found = network.outputs(intact, *boxed)
            if not all(_agree(found[name], expected[name], reference[name]) for name in expected):
                return None
            share = changed.get_total_flops() / max(1, whole.get_total_flops())
        return share


def _channels_last(x: Tensor) -> Tensor:
    """Store the channels of each unit next to each other, since they are gathered as rows."""
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=layout[x.ndim])


def _failure(error: Exception) -> str:
    first = str(error).partition("\n")[0]
    return f"its operations fail if they are evaluated one by one ({type(error).__name__}: {first})"


def _report_dense(reason: str) -> None:
    print(f"the network is evaluated densely: {reason.splitlines()[0]}", file=sys.stderr)


def _agree(found: Tensor, expected: Tensor, reference: Tensor) -> bool:
    """Whether outputs agree but for rounding, given what they are for the intact input."""
    change = float((expected - reference).abs().max())
    allowed = _TOLERANCE * change + _ROUNDING * float(expected.abs().max())
    return float((found - expected).abs().max()) <= allowed


def _corners_and_middle(windows: Windows) -> list[Box]:
    """Return three windows as blocks: two in opposite corners, then one in the middle."""
    shape = windows.shape
    places = [(0,) * len(shape), tuple(n - 1 for n in shape), tuple(n // 2 for n in shape)]
    return [Box(0, tuple(slice(p, p + 1) for p in place)) for place in places]


@dataclass(frozen=True)
class _Batch:
    """Windows that are evaluated together, and the draws of each.

    Attributes
    ----------
    windows : int64 array
        Numbers within the block.
    draws : slice
    """

    windows: IntArray
    draws: slice

    def cut(self, size: int) -> list["_Batch"]:
        """Cut into parts of at most `size` passes: by windows, and by draws once it is one."""
        draws = self.draws.stop - self.draws.start
        if len(self.windows) * draws <= size:
            return [self]
        if len(self.windows) > 1:
            count = -(-len(self.windows) // max(1, size // draws))
            return [_Batch(part, self.draws) for part in np.array_split(self.windows, count)]
        starts = range(self.draws.start, self.draws.stop, size)
        return [_Batch(self.windows, slice(n, min(n + size, self.draws.stop))) for n in starts]


class _Batches:
    """Windows in batches of similar boxes: as similar as full batches allow."""

    def __init__(self, starts: IntArray, draws: int, size: int) -> None:
        groups = (_aligned(starts, modulus) for modulus in _ALIGNMENTS)
        full = (g for g in groups if len(starts) * draws >= len(g) * size)
        chosen = next(full, [np.arange(len(starts))])
        self._waiting = [_Batch(windows, slice(0, draws)) for windows in reversed(chosen)]

    def next(self, size: int) -> _Batch | None:
        """Next batch, of at most `size` passes; None at the end."""
        while self._waiting:
            first, *others = self._waiting.pop().cut(size)
            if not others:
                return first
            self._waiting += [*reversed(others), first]
        return None

    def put_back(self, batch: _Batch) -> None:
        """Take a batch again, for a smaller size."""
        self._waiting.append(batch)


def _aligned(starts: IntArray, modulus: int) -> list[IntArray]:
    """Numbers of the windows, in groups whose starts agree modulo a number."""
    _, group = np.unique(starts % modulus, axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(group.reshape(-1)))
    return np.split(order, ends[:-1])
