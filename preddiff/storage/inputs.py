"""Inputs of an explanation: the stores and files that its expectations are computed from."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Inputs:
    """What the expectations of a store are computed from.

    Attributes
    ----------
    data : Path
        Data store of the items that are explained.
    classifier : Path
        Folder of the classifier.
    gaussian : Path, optional
        Gaussian store, for conditional samplers.
    donors : Path, optional
        Data store whose training items marginal and grey samplers use; `data` if None.
    predictions : Path, optional
        Table of the stage predict, for targets whose class depends on the item, such as `top-1`.
    """

    data: Path
    classifier: Path
    gaussian: Path | None = None
    donors: Path | None = None
    predictions: Path | None = None

    def relative_to(self, store: Path) -> dict[str, str | None]:
        """Paths relative to the folder that a store is in, so that a study can be moved."""
        # The store itself may be a link, which `of` does not follow.
        folder = store.parent.resolve()
        return {
            key: None if path is None else os.path.relpath(path.resolve(), folder)
            for key, path in asdict(self).items()
        }

    @classmethod
    def of(cls, store: Path, about: dict[str, Any]) -> "Inputs":
        """Paths that are stored among a store's attributes."""
        found: dict[str, Any] = {
            key: None if path is None else store.parent / path
            for key, path in about["inputs"].items()
        }
        return cls(**found)
