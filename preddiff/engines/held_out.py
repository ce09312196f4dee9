"""Linear classifiers that see items by models of their own: each by the engine of its model."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines.base import Engine, Progress, no_progress
from preddiff.evidence import Expectations
from preddiff.windows import Block


class ByModel:
    """Expectations of items, each by the engine of the model that it is seen by.

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
        rows_of: dict[int, list[int]] = {}
        models: dict[int, LinearClassifier] = {}
        for row, item in enumerate(items):
            model = self.classifier.model_of(item)
            models[id(model)] = model
            rows_of.setdefault(id(model), []).append(row)
        parts, order = [], []
        for key, rows in rows_of.items():
            engine = self.make(models[key])
            for start in range(0, len(rows), engine.batch):
                some = rows[start : start + engine.batch]
                names = [items[row] for row in some]
                parts.append(engine.expectations(x[some], names, block, progress))
                order += some
        place = np.argsort(order)
        return Expectations(
            *(
                np.concatenate([getattr(part, name) for part in parts])[place]
                for name in ("reference", "change", "variance")
            )
        )
