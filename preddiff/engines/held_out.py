"""Classifiers that see items by models of their own: each item by the engine of its model."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from preddiff.classifiers.held_out import by_model
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.network import Network
from preddiff.engines.base import DrawingEngine, Engine, Progress, no_progress
from preddiff.evidence import Expectations
from preddiff.windows import Block


class ByModel:
    """Expectations of items, each by the engine of the linear model that it is seen by.

    Parameters
    ----------
    classifier : LinearClassifier
        With models of items.
    make : callable
        Returns the engine of a model. It is made for each block, and freed after the items of its
        model, since what engines prepare takes memory.
    """

    # As many as are in memory, so that each model is prepared once per block.
    batch = 256

    def __init__(
        self, classifier: LinearClassifier, make: Callable[[LinearClassifier], Engine]
    ) -> None:
        self.classifier = classifier
        self.make = make

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
    ) -> Expectations:
        """Compute expectations; see `Engine.expectations`."""
        parts, order = [], []
        for model, rows in by_model(self.classifier, items):
            engine = self.make(model)
            for start in range(0, len(rows), engine.batch):
                some = rows[start : start + engine.batch]
                names = [items[row] for row in some]
                parts.append(engine.expectations(x[some], names, block, progress))
                order += some
        return _in_order(parts, order)


class DrawsByModel:
    """Expectations of items over draws, each by the engine of the network that it is seen by.

    Parameters
    ----------
    classifier : Network
        With networks of items.
    make : callable
        Returns the engine of a network. It is made once and kept, since engines find out on their
        first item how a network is best evaluated.
    """

    batch = 1

    def __init__(self, classifier: Network, make: Callable[[Network], DrawingEngine]) -> None:
        self.classifier = classifier
        self.make = make
        self._engines: dict[int, DrawingEngine] = {}

    def expectations(
        self,
        x: NDArray[np.float32],
        items: Sequence[str],
        block: Block,
        progress: Progress = no_progress,
        samples: int | None = None,
    ) -> Expectations:
        """Estimate expectations; see `DrawingEngine.expectations`."""
        parts, order = [], []
        for network, rows in by_model(self.classifier, items):
            engine = self._engine_of(network)
            names = [items[row] for row in rows]
            parts.append(engine.expectations(x[rows], names, block, progress, samples))
            order += rows
        return _in_order(parts, order)

    def _engine_of(self, network: Network) -> DrawingEngine:
        # The networks live as long as the classifier, so that no other has the same id.
        if id(network) not in self._engines:
            self._engines[id(network)] = self.make(network)
        return self._engines[id(network)]


def _in_order(parts: Sequence[Expectations], order: Sequence[int]) -> Expectations:
    """Join the expectations of items that were computed in another order.

    Parameters
    ----------
    parts : sequence of Expectations
    order : sequence of int
        Position of each item that the parts contain, one after the other.
    """
    place = np.argsort(order)
    return Expectations(
        *(
            np.concatenate([getattr(part, name) for part in parts])[place]
            for name in ("reference", "change", "variance")
        )
    )
