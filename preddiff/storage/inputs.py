"""Inputs of an explanation: the stores and files that it is made from."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Inputs:
    """What an expectation store is made from.

    Attributes
    ----------
    data : Path
        Data store of the items that are explained.
    classifier : Path
        Folder.
    gaussian : Path, optional
        Gaussian store, for conditional samplers.
    donors : Path, optional
        Data store that marginal and grey samplers learn from; `data` if None.
    predictions : Path, optional
        Table of the stage predict, for targets that are another class for each item.
    """

    data: Path
    classifier: Path
    gaussian: Path | None = None
    donors: Path | None = None
    predictions: Path | None = None

    def relative_to(self, store: Path) -> dict[str, str | None]:
        """Paths as a store keeps them: relative to its folder, so that a study can be moved."""
        folder = store.resolve().parent
        return {
            key: None if path is None else os.path.relpath(path.resolve(), folder)
            for key, path in asdict(self).items()
        }

    @classmethod
    def of(cls, store: Path, about: dict[str, Any]) -> "Inputs":
        """Read paths back from a store's attributes."""
        found: dict[str, Any] = {
            key: None if path is None else store.parent / path
            for key, path in about["inputs"].items()
        }
        return cls(**found)
