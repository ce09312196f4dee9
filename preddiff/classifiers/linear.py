"""Linear classifiers and regressions: weights, intercepts, and their files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from preddiff.classifiers.nuisance import Nuisance
from preddiff.datasets.items import Items
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
    """Outputs weights . x + intercept.

    Of two classes there is one output, for the second: the log-odds of its probability
    sigmoid(output), or a decision value. Of more there is one for each, whose softmax are the
    probabilities, if there are any. A regression has one, the value that it predicts.

    Attributes
    ----------
    weights : float64 array (channels, *space) or (outputs, channels, *space)
    intercept : float or float64 array (outputs,)
    classes : tuple of str
        Names of the classes, or of the value that is predicted.
    training_size : int
        Number N of training instances, for the Laplace correction.
    corner : tuple of int
        First voxel of the input within the items' volumes: the corner of the slab.
    has_probabilities : bool
        Whether outputs are logits of classes rather than other values.
    nuisance : Nuisance, optional
        What nuisance variables of items add to the outputs.
    offsets : mapping of str to float64 array (outputs,), optional
        What they add for each of some items, by name; see `for_items`.
    models : mapping of str to LinearClassifier, optional
        By name of some items: the model by which they are seen in place of this one.
    """

    weights: FloatArray
    intercept: float | FloatArray
    classes: tuple[str, ...]
    training_size: int
    corner: tuple[int, ...]
    has_probabilities: bool = True
    nuisance: Nuisance | None = None
    offsets: Mapping[str, FloatArray] | None = None
    models: "Mapping[str, LinearClassifier] | None" = None

    has_exact_form: ClassVar[bool] = True
    has_layers: ClassVar[bool] = False
    ranks_classes: ClassVar[bool] = False
    cuts_items: ClassVar[bool] = True
    code: ClassVar[tuple[str, ...]] = ("preddiff.classifiers.linear:LinearClassifier",)

    @property
    def maps(self) -> FloatArray:
        """Weights of all outputs, (outputs, channels, *space)."""
        one = self.weights.ndim == len(self.corner) + 1
        return self.weights[None] if one else self.weights

    @property
    def intercepts(self) -> FloatArray:
        """Intercepts of all outputs, (outputs,)."""
        return np.atleast_1d(np.asarray(self.intercept, dtype=np.float64))

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.maps.shape[1]

    @property
    def space(self) -> tuple[int, ...]:
        """Spatial shape of the input."""
        return self.maps.shape[2:]

    @property
    def slab(self) -> tuple[slice, ...]:
        """The input within the items' volumes, one slice per axis."""
        return tuple(slice(c, c + n) for c, n in zip(self.corner, self.space, strict=True))

    @property
    def digest(self) -> str:
        """Digest of all numbers that the output depends on, besides those of items."""
        numbers = [*self.intercepts, self.training_size, *self.corner]
        arrays = [self.weights, np.array(numbers, dtype=np.float64)]
        # Nothing more for two classes, so that results of earlier versions stay valid.
        if not self.has_probabilities:
            arrays.append(np.array(["values"]))
        if self.nuisance is not None:
            arrays += [np.array(self.nuisance.names), self.nuisance.coefficients]
        return digest_arrays(*arrays)

    def class_number(self, label: str) -> int:
        """Number of a class, from 0.

        Raises
        ------
        InputError
            If there is no such class.
        """
        if label not in self.classes:
            raise InputError(
                f"there is no class '{label}': the classes are {_listed(self.classes)}"
                if len(self.classes) > 1
                else f"there is no output '{label}': the only one is '{self.classes[0]}'"
            )
        return self.classes.index(label)

    def output_of(self, label: str) -> tuple[int, int]:
        """Number of the output that a class is read from, and its sign: 1 or -1.

        Of two classes, the first is the other end of the only output.
        """
        number = self.class_number(label)
        if len(self.maps) > 1:
            return number, 1
        return 0, 1 if number == len(self.classes) - 1 else -1

    def weights_of(self, label: str) -> FloatArray:
        """Weights (*space) of a class's output, summed over channels, as windows contain all.

        Of two classes these are those of the second, whichever is named.
        """
        number, _ = self.output_of(label)
        found: FloatArray = self.maps[number].sum(axis=0)
        return found

    def has_exact_expectation(self, target: Target) -> bool:
        """Whether the expectation of a target is known without draws.

        That of a sigmoid is an integral in one dimension, that of a softmax in as many as there are
        classes.
        """
        return target.kind != "probability" or len(self.maps) == 1

    def for_items(self, items: Items) -> "LinearClassifier":
        """Return the classifier with the nuisance variables of the items of a data store.

        Raises
        ------
        InputError
            If a variable or its value is missing.
        """
        if self.nuisance is None:
            return self
        added = self.nuisance.offsets(items)
        return replace(self, offsets=dict(zip(items.names, added, strict=True)))

    def for_item(self, items: Items, name: str) -> "LinearClassifier":
        """Return the classifier of an item of a data store, for inputs without a name.

        What the item's nuisance variables add to the outputs is part of its intercept.

        Raises
        ------
        InputError
            If there is no such item, or a variable or its value is missing.
        """
        one = self.for_items(items).model_of(items.names[items.number(name)])
        intercept = one.intercepts + one.offset(name)
        return replace(one, intercept=intercept, nuisance=None, offsets=None, models=None)

    def model_of(self, item: str) -> "LinearClassifier":
        """Return the model that an item is seen by: this one, unless it has one of its own."""
        return self if self.models is None else self.models.get(item, self)

    def facts_of(self, item: str) -> list[float | str]:
        """What the outputs for an item depend on besides its values and the classifier's digest."""
        model = self.model_of(item)
        own: list[float | str] = [] if model is self else [model.digest]
        return own + ([] if model.offsets is None else model.offsets[item].tolist())

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

    def outputs(self, x: NDArray[np.floating], items: Sequence[str] | None = None) -> FloatArray:
        """Outputs for inputs (n, channels, *space), shape (n, outputs).

        Parameters
        ----------
        x : array (n, channels, *space)
        items : sequence of str, optional
            Names of the items, on whose nuisance variables outputs may depend.

        Raises
        ------
        InputError
            If nuisance variables are needed, but not known.
        """
        if self.models is not None and items is not None:
            models = [replace(self.model_of(item), models=None) for item in items]
            pairs = zip(models, range(len(x)), items, strict=True)
            return np.concatenate([one.outputs(x[n : n + 1], [item]) for one, n, item in pairs])
        rows = x.reshape(len(x), -1).astype(np.float64, copy=False)
        # One product per row, since BLAS may round a row differently in batches of other sizes.
        columns = [
            np.array([row @ weights.reshape(-1) for row in rows]) + intercept
            for weights, intercept in zip(self.maps, self.intercepts, strict=True)
        ]
        found = np.stack(columns, axis=1)
        if self.nuisance is None:
            return found
        return found + np.stack([self.offset(item) for item in items or [""] * len(x)])

    def offset(self, item: str) -> FloatArray:
        """What an item's nuisance variables add to the outputs, (outputs,).

        Raises
        ------
        InputError
            If they are needed, but not known.
        """
        if self.nuisance is None:
            return np.zeros(len(self.maps))
        if self.offsets is None or item not in self.offsets:
            raise InputError(
                "the classifier's outputs depend on nuisance variables "
                f"({', '.join(self.nuisance.variables)}), which are not known here: use "
                "`for_item(preddiff.datasets.items.Items(PATH), NAME)` for an item of a data store"
            )
        return self.offsets[item]

    def value(self, target: Target, outputs: FloatArray) -> FloatArray:
        """Value (n,) of a target for outputs (n, outputs)."""
        number, sign = self.output_of(target.label)
        if target.kind == "probability" and len(self.maps) > 1:
            return softmax(outputs, axis=1)[:, number]
        own = sign * outputs[:, number]
        return expit(own) if target.kind == "probability" else own

    def logit(self, x: NDArray[np.floating]) -> FloatArray:
        """Log-odds of the second of two classes for inputs (n, channels, *space), shape (n,)."""
        return self.outputs(x)[:, 0]

    def probability(self, x: NDArray[np.floating]) -> FloatArray:
        """Probability of the second of two classes for inputs (n, channels, *space), shape (n,)."""
        return expit(self.logit(x))

    def save(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write `weights.npy` and, last, `classifier.json`, which also contains `about`."""
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / "weights.npy") as temporary, temporary.open("wb") as file:
            np.save(file, self.weights, allow_pickle=False)
        description = {
            "kind": "linear",
            "classes": list(self.classes),
            "intercept": self.intercepts.tolist() if self.intercepts.size > 1 else self.intercept,
            "training_size": self.training_size,
            "corner": list(self.corner),
            "has_probabilities": self.has_probabilities,
            **({} if self.nuisance is None else {"nuisance": self.nuisance.described()}),
            **(about or {}),
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
            intercept = np.asarray(description["intercept"], dtype=np.float64)
            nuisance = description.get("nuisance")
            return cls(
                weights=weights.astype(np.float64, casting="safe"),
                intercept=intercept if intercept.ndim else float(intercept),
                classes=tuple(str(name) for name in description["classes"]),
                training_size=int(description["training_size"]),
                corner=tuple(int(c) for c in description["corner"]),
                # Missing in versions that knew two classes only.
                has_probabilities=bool(description.get("has_probabilities", True)),
                nuisance=None if nuisance is None else Nuisance.read(nuisance),
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename}: no such file; train the classifier first"
            ) from None
        except (KeyError, TypeError, ValueError, EOFError) as error:
            raise InputError(f"{folder}: not a trained classifier, or damaged ({error})") from None


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]])
