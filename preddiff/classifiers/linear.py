"""A linear classifier of two classes: weights, intercept, and their files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from preddiff.errors import InputError
from preddiff.storage.files import write_atomically
from preddiff.storage.provenance import digest_arrays
from preddiff.targets import Target
from preddiff.windows import FloatArray

# Imported where they are needed, since torch takes a second: figures and tables need none.
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from preddiff.classifiers.linear_nodes import LinearNodes


@dataclass(frozen=True)
class LinearClassifier:
    """Probability sigmoid(weights . x + intercept) of the second of two classes.

    Attributes
    ----------
    weights : float64 array (channels, *space)
    intercept : float
    classes : (str, str)
        Names; the probability is that of the second.
    training_size : int
        Number N of training instances, for the Laplace correction.
    corner : tuple of int
        First voxel of the input within the items' volumes: the corner of the slab.
    """

    weights: FloatArray
    intercept: float
    classes: tuple[str, str]
    training_size: int
    corner: tuple[int, ...]

    has_exact_form: ClassVar[bool] = True
    has_layers: ClassVar[bool] = False
    ranks_classes: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = True
    cuts_items: ClassVar[bool] = True
    code: ClassVar[tuple[str, ...]] = ("preddiff.classifiers.linear:LinearClassifier",)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return len(self.weights)

    @property
    def space(self) -> tuple[int, ...]:
        """Spatial shape of the input."""
        return self.weights.shape[1:]

    @property
    def slab(self) -> tuple[slice, ...]:
        """The input within the items' volumes, one slice per axis."""
        return tuple(slice(c, c + n) for c, n in zip(self.corner, self.space, strict=True))

    @property
    def digest(self) -> str:
        """Digest of all numbers that the output depends on."""
        numbers = [self.intercept, self.training_size, *self.corner]
        return digest_arrays(self.weights, np.array(numbers, dtype=np.float64))

    def class_number(self, label: str) -> int:
        """Number of a class, 0 or 1.

        Raises
        ------
        InputError
            If there is no such class.
        """
        if label not in self.classes:
            raise InputError(
                f"there is no class '{label}': the classes are {' and '.join(self.classes)}"
            )
        return self.classes.index(label)

    def count_maps(self, layer: str) -> int:
        """Refuse to look for feature maps.

        Raises
        ------
        InputError
            A linear classifier has no hidden layers.
        """
        raise InputError(f"layer '{layer}': a linear classifier has no hidden layers")

    def standardised(self, x: "Tensor") -> "Tensor":
        """Return the input unchanged: linear classifiers use the values of the items."""
        return x

    def nodes(
        self,
        targets: Sequence[Target],
        classes: Mapping[str, Sequence[int]],
        device: "torch.device | str" = "cpu",
    ) -> "LinearNodes":
        """Targets as differentiable functions of the input."""
        from preddiff.classifiers.linear_nodes import LinearNodes

        return LinearNodes(self, targets, device)

    def logit(self, x: NDArray[np.floating]) -> FloatArray:
        """Log-odds of the second class for inputs (n, channels, *space), shape (n,)."""
        rows = x.reshape(len(x), -1).astype(np.float64, copy=False)
        # One product per row, since BLAS may round a row differently in batches of other sizes.
        return np.array([row @ self.weights.reshape(-1) for row in rows]) + self.intercept

    def probability(self, x: NDArray[np.floating]) -> FloatArray:
        """Probability of the second class for inputs (n, channels, *space), shape (n,)."""
        return expit(self.logit(x))

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Write `weights.npy` and, last, `classifier.json`, which also contains `about`."""
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / "weights.npy") as temporary, temporary.open("wb") as file:
            np.save(file, self.weights, allow_pickle=False)
        description = {
            "kind": "linear",
            "classes": list(self.classes),
            "intercept": self.intercept,
            "training_size": self.training_size,
            "corner": list(self.corner),
            **about,
        }
        with write_atomically(folder / "classifier.json") as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "LinearClassifier":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the files are missing or damaged.
        """
        try:
            description = json.loads((folder / "classifier.json").read_text())
            weights = np.load(folder / "weights.npy", allow_pickle=False)
            first, second = description["classes"]
            return cls(
                weights=weights.astype(np.float64, casting="safe"),
                intercept=float(description["intercept"]),
                classes=(str(first), str(second)),
                training_size=int(description["training_size"]),
                corner=tuple(int(c) for c in description["corner"]),
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename}: no such file; train the classifier first"
            ) from None
        except (KeyError, TypeError, ValueError, EOFError) as error:
            raise InputError(f"{folder}: not a trained classifier, or damaged ({error})") from None
