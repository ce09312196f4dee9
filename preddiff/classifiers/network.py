"""Networks as classifiers: their inputs, files and targets."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from preddiff.classifiers.layers import count_maps
from preddiff.classifiers.precision import Precision, arithmetic
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.errors import InputError
from preddiff.storage.files import write_atomically
from preddiff.storage.provenance import digest_file, digest_json
from preddiff.targets import Target

if TYPE_CHECKING:
    from preddiff.classifiers.network_nodes import NetworkNodes
    from preddiff.datasets.items import Items

KIND = "network"
# What the outputs are, if they are not logits of classes.
VALUES = "values"
_WEIGHTS = "weights.safetensors"

# Share of the range of the outputs by which two calls on the same inputs may differ. Other orders
# of summation stay below it; dropout and batch statistics exceed it by far. Where the range itself
# is no more than rounding, calls may differ by a share of the largest output.
_TOLERANCE = 1e-3
_ROUNDING = 1e-5
# Contrasts of inputs: statistics of a batch then depend on which of them are in it.
_CONTRASTS = (0.5, 0.8, 1.2, 1.5)
# Names in torch's autograd: of what makes a number between 0 and 1 of any other, and of what only
# moves numbers.
_SIGMOIDS = ("Sigmoid", "Hardsigmoid")
_MOVES = (
    *("Cat", "Clone", "Expand", "Index", "Permute", "Repeat", "ReshapeAlias", "Select", "Slice"),
    *("Split", "Squeeze", "Stack", "T", "ToCopy", "Transpose", "Unbind", "UnsafeView", "Unsqueeze"),
    "View",
)


@dataclass(frozen=True)
class Network:
    """A network from standardised inputs to logits of classes, or to other values.

    Attributes
    ----------
    module : nn.Module
        In eval mode, without gradients of its parameters.
    architecture : mapping
        What it is built from, under the name of its kind: {"torchvision": name}, {"module": file,
        "factory": name, "digest": of the file}, {"digits": width}, ...
    classes : tuple of str
        Names of the classes, or of the values. Of two classes, there may be a single logit: the
        log-odds of the second.
    training_size : int
        Number N of training instances, for the Laplace correction.
    space : tuple of int
        Spatial shape of the input.
    standardisation : Standardisation
    digest : str
        Digest of everything that its output depends on.
    first_voxel : tuple of int, optional
        First voxel of the input within the items, if it is a part of them.
    has_probabilities : bool
        Whether its outputs are logits of classes, rather than other values such as an age.
    models : mapping of str to Network, optional
        By name of some items: the network by which they are seen in place of this one.
    """

    module: nn.Module
    architecture: Mapping[str, Any]
    classes: tuple[str, ...]
    training_size: int
    space: tuple[int, ...]
    standardisation: Standardisation
    digest: str = ""
    first_voxel: tuple[int, ...] | None = None
    has_probabilities: bool = True
    models: "Mapping[str, Network] | None" = None

    has_exact_form: ClassVar[bool] = False
    has_layers: ClassVar[bool] = True

    @property
    def ranks_classes(self) -> bool:
        """Whether targets can name the true class or the top classes of an item."""
        return self.has_probabilities

    @property
    def cuts_items(self) -> bool:
        """Whether its input is a part of the items, which can have any shape."""
        return self.first_voxel is not None

    @property
    def kind(self) -> str:
        """Kind of classifier that made it."""
        from preddiff.classifiers.base import kind_of

        return kind_of(self.architecture)

    @property
    def code(self) -> tuple[str, ...]:
        """Definitions that its output depends on: roots of `digest_code`."""
        from preddiff.classifiers.base import CLASSIFIERS

        return CLASSIFIERS[self.kind].code_of_stored(self.architecture)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return len(self.standardisation.mean)

    @property
    def corner(self) -> tuple[int, ...]:
        """First voxel of the input within the items."""
        return self.first_voxel or (0,) * len(self.space)

    @property
    def slab(self) -> tuple[slice, ...]:
        """The input within the items, one slice per axis."""
        return tuple(slice(c, c + n) for c, n in zip(self.corner, self.space, strict=True))

    @cached_property
    def _by_name(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for number, name in enumerate(self.classes):
            found[name] = None if name in found else number
        return found

    def for_items(self, items: "Items") -> "Network":
        """Return the network itself: it uses nothing of the items of a data store but values."""
        return self

    def model_of(self, item: str) -> "Network":
        """Return the network that an item is seen by: this one, unless it has one of its own."""
        return self if self.models is None else self.models.get(item, self)

    def facts_of(self, item: str) -> list[float | str]:
        """What the output for an item depends on besides its values and the digest."""
        model = self.model_of(item)
        return [] if model is self else [model.digest]

    def weights_of(self, label: str) -> None:
        """No weights of voxels, since a network is not linear."""
        return None

    def has_exact_expectation(self, target: Target) -> bool:
        """Never, since a network is not linear."""
        return False

    def class_number(self, label: str) -> int:
        """Number of a class given by its name, or by its number.

        Raises
        ------
        InputError
            If there is no such class, or several of that name.
        """
        if label in self._by_name:
            number = self._by_name[label]
            if number is None:
                same = [str(n) for n, name in enumerate(self.classes) if name == label]
                raise InputError(
                    f"classes {', '.join(same)} are all called '{label}': use the number instead"
                )
            return number
        if label.isdecimal() and int(label) < len(self.classes):
            return int(label)
        raise InputError(
            f"the classifier has no class '{label}'; it has {len(self.classes)} classes, from "
            f"'{self.classes[0]}' to '{self.classes[-1]}'"
        )

    def count_maps(self, layer: str) -> int:
        """Count the feature maps of a layer.

        Raises
        ------
        InputError
            If there is no such layer, or it has no feature maps.
        """
        return count_maps(self.module, layer, torch.zeros((1, self.channels, *self.space)))

    def standardised(self, x: Tensor) -> Tensor:
        """Standardise pixel values (channels, *space) for the network."""
        return self.standardisation.image(x)

    def nodes(
        self,
        targets: Sequence[Target],
        classes: Mapping[str, Sequence[int]],
        device: torch.device | str = "cpu",
    ) -> "NetworkNodes":
        """Targets as differentiable functions of the standardised input."""
        from preddiff.classifiers.network_nodes import NetworkNodes

        return NetworkNodes(self, Readout(tuple(targets)), classes, device)

    def logits(self, x: Tensor, precision: Precision = "float32") -> Tensor:
        """Logits (n, K) of inputs (n, channels, *space) in pixel values.

        The network is moved to the device of the inputs and runs there in the given precision,
        regardless of torch's defaults.

        Raises
        ------
        InputError
            If the device does not have the precision.
        """
        self.module.to(x.device)
        with arithmetic(x.device, precision):
            found: Tensor = self.module(self.standardisation.image(x))
        return found

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and, last, `classifier.json`."""
        from preddiff.classifiers.checkpoint import write_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        write_state_dict(self.module, folder / _WEIGHTS)
        architecture = _with_files(
            self.architecture, lambda file: os.path.relpath(file.resolve(), folder.resolve())
        )
        description = {
            "kind": KIND,
            "architecture": architecture,
            "classes": list(self.classes),
            "training_size": self.training_size,
            "space": list(self.space),
            "mean": list(self.standardisation.mean),
            "std": list(self.standardisation.std),
            "weights": digest_file(folder / _WEIGHTS),
        }
        # Without them, descriptions of networks of images are as they always were, and so are their
        # digests.
        if self.first_voxel is not None:
            description["corner"] = list(self.first_voxel)
        if not self.has_probabilities:
            description["outputs"] = VALUES
        with write_atomically(folder / "classifier.json") as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Network":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If files are missing, damaged or changed.
        """
        from preddiff.classifiers.base import CLASSIFIERS, kind_of
        from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict

        try:
            about = json.loads((folder / "classifier.json").read_text())
            architecture = about["architecture"]
            classes = tuple(str(name) for name in about["classes"])
            built = CLASSIFIERS[kind_of(architecture)].rebuild(architecture, len(classes), folder)
            weights = folder / _WEIGHTS
            if digest_file(weights) != about["weights"]:
                raise InputError(
                    f"{weights} changed since the classifier was stored: run its stage again"
                )
            load_state_dict(built, read_state_dict(weights), str(weights))
            space = tuple(int(n) for n in about["space"])
            mean, std = (tuple(map(float, about[key])) for key in ("mean", "std"))
            return cls(
                prepared(built),
                architecture,
                classes,
                int(about["training_size"]),
                space,
                Standardisation(mean, std, len(space)),
                digest_json(about),
                tuple(int(n) for n in about["corner"]) if "corner" in about else None,
                about.get("outputs") != VALUES,
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename}: no such file; run the stage of the classifier first"
            ) from None
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise InputError(f"{folder}: not a stored network, or damaged ({error})") from None


def located(architecture: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Description of a network that was read from a folder, for storing it in another one."""
    return _with_files(architecture, lambda file: str((folder / file).resolve()))


def _with_files(architecture: Mapping[str, Any], change: Callable[[Path], str]) -> dict[str, Any]:
    """Change the paths of Python files in a description, and in those that it contains."""
    found: dict[str, Any] = {
        key: _with_files(part, change) if isinstance(part, Mapping) else part
        for key, part in architecture.items()
    }
    if "module" in found:
        found["module"] = change(Path(found["module"]))
    return found


def prepared(network: nn.Module) -> nn.Module:
    """Put a network into eval mode, in float32, without gradients of its parameters."""
    return network.eval().float().requires_grad_(False)


@torch.inference_mode()
def check(network: Network) -> None:
    """Check, on a few random inputs, that a network can be explained.

    Raises
    ------
    InputError
        If its output is not one row of finite numbers per input, with one logit per class (or a
        single one for two classes) or one value per name; if logits are probabilities instead; or
        if it is random or depends on the other inputs of a batch.
    """
    x = _random_inputs(network)
    try:
        first = network.logits(x)
    except Exception as error:
        # The code of a network may raise any exception.
        raise InputError(
            f"the network does not accept inputs of {network.channels} x "
            f"{' x '.join(map(str, network.space))}: {error}"
        ) from error
    if not isinstance(first, Tensor):
        raise InputError(
            f"the network returns a {type(first).__name__}, not a tensor of logits: wrap it in a "
            "module that picks the logits"
        )
    if first.ndim != 2 or len(first) != len(x):
        raise InputError(
            f"the network returned an output of shape {tuple(first.shape)} for {len(x)} inputs: it "
            "must return one row of logits per input"
        )
    _check_outputs(network, first)
    if not first.isfinite().all():
        raise InputError("the network's output is NaN or infinite for random inputs")
    tolerance = _TOLERANCE * float(first.max() - first.min())
    tolerance += _ROUNDING * float(first.abs().max())
    for other, what in (
        (network.logits(x), "differs from call to call: is dropout on in eval mode?"),
        (
            torch.cat([network.logits(x[:2]), network.logits(x[2:])]),
            "depends on the batch's other inputs: does batch normalisation use their statistics?",
        ),
    ):
        if float((other - first).abs().max()) > tolerance:
            raise InputError(f"the network's output for an input {what}")
    are_shares = bool(((first >= 0) & (first <= 1)).all())
    if network.has_probabilities and are_shares and _ends_in_sigmoid(network):
        raise InputError(
            "the network ends in a sigmoid, so its outputs are not logits: remove the sigmoid, or "
            "wrap the network in a module that returns torch.logit of its outputs"
        )


def _random_inputs(network: Network) -> Tensor:
    """Draw a few inputs (n, channels, *space) like those that a network is made for.

    Pixel values of images lie between 0 and 1. Those of volumes can have any scale, so they are
    drawn about the mean that is subtracted from them.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (len(_CONTRASTS), network.channels, *network.space)
    if len(network.space) == 2:
        return torch.rand(shape, generator=generator)
    along = (-1, *(1,) * len(network.space))
    contrasts = torch.tensor(_CONTRASTS).reshape(-1, 1, *along[1:])
    about = network.standardisation
    mean, std = (torch.tensor(one).reshape(along) for one in (about.mean, about.std))
    return mean + std * contrasts * torch.randn(shape, generator=generator)


@torch.inference_mode(False)
def _ends_in_sigmoid(network: Network) -> bool:
    """Whether all outputs of a network are those of a sigmoid."""
    x = _random_inputs(network)[:1].requires_grad_()
    # Nothing is computed backwards, so that no activations have to be kept.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda _: None, lambda _: x):
        output = network.logits(x)
    return output.grad_fn is not None and _comes_from_sigmoid(output.grad_fn)


def _comes_from_sigmoid(node: "torch.autograd.graph.Node") -> bool:
    name = re.sub(r"Backward\d*$", "", node.name())
    if name not in _MOVES:
        return name in _SIGMOIDS
    return all(one is not None and _comes_from_sigmoid(one) for one, _ in node.next_functions)


def _check_outputs(network: Network, outputs: Tensor) -> None:
    """Check that outputs (n, K) are as many as their names, and logits if they are of classes."""
    count, names = outputs.shape[1], len(network.classes)
    if not network.has_probabilities:
        if count != names:
            raise InputError(
                f"the network returns {count} values, but {names} are named: set outputs to "
                "classes, if it returns one logit per class"
            )
        return
    if count == 1 and names != 2:
        raise InputError(
            f"the network returns a single number for {names} classes: that is the log-odds of the "
            "second of two classes (name both in `classes`), or a value (outputs: value)"
        )
    if count not in (1, names):
        raise InputError(
            f"the network returns {count} logits, but there are {names} names of classes: correct "
            "the classifier's `classes`"
        )
    sums_to_one = bool((outputs.sum(1) - 1).abs().max() < _TOLERANCE)
    if count > 1 and sums_to_one and bool((outputs >= 0).all()):
        raise InputError(
            "the network returns probabilities, not logits: remove its final softmax, or wrap it "
            "in a module that returns their logarithms"
        )
