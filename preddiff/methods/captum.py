"""Methods of the library Captum (Kokhlikyan et al. 2020), as maps of the same targets."""

import contextlib
import importlib.metadata
import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn
from torch.nn import functional as torch_functional

from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps, MethodSettings, Nodes
from preddiff.methods.captum_algorithms import (
    REFUSED,
    SMOOTH,
    SMOOTHED,
    algorithm_class,
    arguments_of,
    captum_attr,
    parameters_of,
)
from preddiff.methods.captum_rules import adapted
from preddiff.methods.fills import filled
from preddiff.settings.base import Arguments, Positive, unknown
from preddiff.targets import Target

# Defaults of arguments, where Captum's are too slow, too noisy or need too much memory.
_DEFAULTS: dict[str, JsonValue] = {
    "internal_batch_size": 16,
    "perturbations_per_eval": 16,
    "nt_samples": 25,
    "nt_samples_batch_size": 5,
}
# Standard deviation of SmoothGrad's noise, as a share of the item's range (Smilkov et al. 2017).
_NOISE = 0.15
# Number of baselines, and of samples, where an algorithm needs a distribution.
_BASELINES = 16
# Number of cells along the longest axis.
_CELLS = 7
# Share of the sum of attributions that they may miss without a note.
_COMPLETE = 0.1
# Types of values, by the type of Captum's default.
_TYPES: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
}
_NAMED = ("zero", "mean", "blur")
_MODES = {2: "bilinear", 3: "trilinear"}


@METHODS.register
class Captum(MethodSettings):
    """An algorithm of Captum, such as integrated gradients, DeepLIFT or Grad-CAM.

    Attributions are summed over channels. Captum is an optional dependency, which is imported only
    if a study uses it.
    """

    # Their papers explain the score of a class before the softmax.
    default_target: ClassVar[str] = "logit:top-1"
    # Of those that take many passes, such as 50 for integrated gradients.
    seconds_per_item: ClassVar[float] = 10.0

    method: Literal["captum"] = Field(description="captum")
    algorithm: str = Field(
        description="name of a class of captum.attr, such as IntegratedGradients, GradientShap, "
        "DeepLift, Saliency, InputXGradient, GuidedBackprop, LayerGradCam, Occlusion, "
        "ShapleyValueSampling or LRP; or SmoothGrad, which is NoiseTunnel over Saliency, or over "
        "the algorithm that `arguments: {attribution_method: NAME}` names"
    )
    arguments: Arguments = Field(
        {},
        description="arguments of the algorithm, by the names that Captum gives them; `baselines` "
        "is a number, zero, mean (of each channel), blur, or noise where Captum needs a "
        "distribution",
    )
    layer: str | None = Field(
        None,
        description="layer, for algorithms that explain by one (`preddiff layers` lists them); "
        "default: the last one with feature maps before pooling",
    )
    cell_side: Positive | None = Field(
        None,
        description="side in voxels of the cells that ShapleyValueSampling, KernelShap and "
        "FeatureAblation remove, and of Occlusion's window; default: a seventh of the longest axis",
    )

    @model_validator(mode="after")
    def _fits_captum(self) -> "Captum":
        parameters = self._parameters
        valid = [name for name in parameters if name not in REFUSED]
        for name, value in self.arguments.items():
            if name in REFUSED and name in parameters:
                raise ValueError(f"arguments: '{name}' cannot be set: {REFUSED[name]}")
            if name not in parameters:
                raise ValueError(
                    f"arguments: {unknown(name, valid, 'argument')}, for {self.algorithm}"
                )
            self._check(name, value)
        if self.layer is not None and "layer" not in parameters:
            raise ValueError(f"layer: {self.algorithm} does not explain by a layer")
        if self.cell_side is not None and not {"feature_mask", "sliding_window_shapes"} & {
            *parameters
        }:
            raise ValueError(f"cell_side: {self.algorithm} does not remove cells")
        return self

    def _check(self, name: str, value: JsonValue) -> None:
        """Check the type of an argument."""
        if name == "baselines":
            names = [*_NAMED, "noise"] if self._needs_distribution else list(_NAMED)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number and value not in names:
                raise ValueError(f"arguments: baselines: give a number or {', '.join(names)}")
            return
        default = self._parameters[name].default
        kind = _TYPES.get(type(default))
        if kind and (not isinstance(value, kind) or isinstance(value, bool) != (kind == (bool,))):
            raise ValueError(
                f"arguments: {name}: give a value like {default!r}, which is Captum's default"
            )

    @property
    def named_layers(self) -> list[str]:
        """The layer, if it is set."""
        return [] if self.layer is None else [self.layer]

    @property
    def _is_smoothed(self) -> bool:
        return self.algorithm == SMOOTH

    @property
    def _inner(self) -> str:
        """Name of the algorithm, or of the one that is averaged over noisy inputs."""
        return (
            str(self.arguments.get(SMOOTHED, "Saliency")) if self._is_smoothed else self.algorithm
        )

    @property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        """Parameters of the algorithm's constructor and of its `attribute`."""
        return parameters_of(self._inner, self._is_smoothed)

    @property
    def _needs_distribution(self) -> bool:
        """Whether baselines have no default, because they are a distribution."""
        found = self._parameters.get("baselines")
        return found is not None and found.default is inspect.Parameter.empty

    def _argument(self, name: str) -> Any:
        """Value of an argument, as given or by default; None if the algorithm has none."""
        if name not in self._parameters:
            return None
        default = self._parameters[name].default
        return self.arguments.get(name, _DEFAULTS.get(name, default))

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether it samples."""
        samples = {"n_samples", "nt_samples"} & {*self._parameters}
        return bool(samples) or self._needs_distribution

    @property
    def needs_layers(self) -> bool:  # type: ignore[override]
        """Whether it explains by a layer."""
        return "layer" in self._parameters

    @property
    def shows_evidence(self) -> bool:  # type: ignore[override]
        """Whether its attributions are signed."""
        return not (
            self._argument("abs")
            or self._argument("relu_attributions")
            or self._argument("nt_type") in ("smoothgrad_sq", "vargrad")
        )

    def provenance(self) -> dict[str, Any]:
        """Algorithm and arguments, and the version of Captum."""
        return {**super().provenance(), "captum": importlib.metadata.version("captum")}

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Compute the attributions of each target.

        All targets of an item start from the same seed, so a map depends on neither the other
        targets nor the other items. The standard error is 0, because Captum does not return any.
        """
        with torch.no_grad():
            values = nodes(x[None].clone(), item)[0]
        nodes = self._hookable(nodes, x, item)
        found, notes = [], []
        for number, target in enumerate(targets):
            value = _Value(nodes, item, number)
            with _seeded(seed, x.device), _errors(self.algorithm, item, target):
                attributions, missed = self._attributions(value, x)
                found.append(self._map(attributions, x))
            notes += _notes(f"{self.algorithm}, {target}", float(attributions.sum()), missed)
        maps = torch.stack(found)
        return Maps(values, maps, torch.zeros_like(maps), notes=tuple(notes))

    def _hookable(self, nodes: Nodes, x: Tensor, item: str) -> Nodes:
        """Return nodes that hooks fit and whose layer is tapped, if the algorithm needs it."""
        if not {"layer", "model"} & {*self._parameters}:
            return nodes
        try:
            tapped = (self.layer or nodes.last_maps(x)) if "layer" in self._parameters else None
            return nodes.hookable(tapped)
        except InputError as error:
            raise InputError(f"item '{item}': Captum's {self.algorithm}: {error}") from error

    def _attributions(self, value: "_Value", x: Tensor) -> tuple[Tensor, float]:
        """Run the algorithm; return its attributions (1, ...), and by how much they miss."""
        parameters = self._parameters
        kind = algorithm_class(self._inner)
        given = self._given(x)
        built = {key: given.pop(key) for key in arguments_of(kind.__init__) if key in given}
        tapped = [value.network.get_submodule("tap")] if "layer" in parameters else []
        delta = "return_convergence_delta" in parameters and not self._is_smoothed
        delta = delta and built.get("multiply_by_inputs", True)
        if delta:
            given["return_convergence_delta"] = True
        with adapted(value, kind) if "model" in parameters else contextlib.nullcontext():
            algorithm = kind(value, *tapped, **built)
            if self._is_smoothed:
                algorithm = captum_attr().NoiseTunnel(algorithm)
            found = algorithm.attribute(x[None].clone().requires_grad_(), **given)
        attributions, missed = found if delta else (found, torch.zeros(1))
        if isinstance(attributions, tuple):
            (attributions,) = attributions
        return attributions.detach().double(), float(missed.mean())

    def _given(self, x: Tensor) -> dict[str, Any]:
        """Arguments of Captum's constructor and `attribute` for an item."""
        parameters = self._parameters
        given: dict[str, Any] = {
            name: value for name, value in _DEFAULTS.items() if name in parameters
        }
        if self._needs_distribution and "n_samples" in parameters:
            given["n_samples"] = _BASELINES
        given |= {k: _captum_value(v, parameters[k]) for k, v in self.arguments.items()}
        given.pop(SMOOTHED, None)
        if self._is_smoothed:
            given.setdefault("stdevs", _NOISE * float(x.max() - x.min()))
        if "baselines" in parameters:
            default = "noise" if self._needs_distribution else "zero"
            given["baselines"] = _baselines(x, given.get("baselines", default))
        if "feature_mask" in parameters:
            given["feature_mask"] = _grid(x, self._side(x))
        if "sliding_window_shapes" in parameters:
            window = given.setdefault(
                "sliding_window_shapes",
                (len(x), *(min(self._side(x), n) for n in x.shape[1:])),
            )
            given.setdefault("strides", tuple(-(-side // 2) for side in window))
        return given

    def _side(self, x: Tensor) -> int:
        return self.cell_side or math.ceil(max(x.shape[1:]) / _CELLS)

    def _map(self, attributions: Tensor, x: Tensor) -> Tensor:
        """Reduce attributions (1, channels, *space) to a map, upsampled from a layer to the item.

        Captum gives each channel the effect of a cell that spans all channels, so that their mean
        is taken instead of their sum. Magnitudes of gradients are reduced to their maximum.
        """
        if attributions.ndim != x.ndim + 1:
            raise InputError(
                f"layer '{self.layer}' has activations of shape {tuple(attributions.shape[1:])}, "
                "which are not feature maps: choose another layer (`preddiff layers`)"
            )
        window = self.arguments.get("sliding_window_shapes")
        spans = "feature_mask" in self._parameters or (
            "sliding_window_shapes" in self._parameters
            and (not isinstance(window, list) or window[0] == len(x))
        )
        if self._argument("abs"):
            found = attributions[0].amax(0)
        else:
            found = attributions[0].mean(0) if spans else attributions[0].sum(0)
        if found.shape != x.shape[1:]:
            found = torch_functional.interpolate(
                found[None, None], x.shape[1:], mode=_MODES[found.ndim], align_corners=False
            )[0, 0]
        return found


class _Value(nn.Module):
    """The value of a target, with the network as a submodule.

    Parameters
    ----------
    nodes : Nodes
    item : str
    number : int
        Number of the target.
    """

    def __init__(self, nodes: Nodes, item: str, number: int) -> None:
        super().__init__()
        self.network = nodes.network
        self._nodes, self._item, self._number = nodes, item, number

    def forward(self, x: Tensor) -> Tensor:
        """Compute the values (n,) for inputs (n, channels, *space)."""
        # A copy, because a network may change its input in place.
        return self._nodes(x.clone(), self._item)[:, self._number]


def _notes(what: str, total: float, missed: float) -> list[str]:
    """Note attributions that do not add up to the change of the target, or that are all zero."""
    if abs(missed) > _COMPLETE * abs(total):
        return [
            f"{what}: attributions add up to {total:.3g}, but miss the change of the target by "
            f"{abs(missed):.3g}"
        ]
    return []


def _captum_value(value: JsonValue, parameter: inspect.Parameter) -> Any:
    """Convert a JSON value: Captum takes tuples for lists, and some numbers only as float."""
    if isinstance(value, list):
        return tuple(value)
    is_float = isinstance(parameter.default, float) and not isinstance(value, bool)
    return float(value) if is_float and isinstance(value, int) else value


def _baselines(x: Tensor, choice: Any) -> Tensor:
    """Baselines (n, channels, *space) of an item.

    Noise is drawn on the host, with mean 0 and the item's standard deviation in each channel.
    """
    if choice == "noise":
        spread = x.flatten(1).std(1).reshape(-1, *(1,) * (x.ndim - 1))
        return torch.randn((_BASELINES, *x.shape)).to(x) * spread
    if choice in _NAMED:
        return filled(x, choice)[None]
    return torch.full_like(x, float(choice))[None]


def _grid(x: Tensor, side: int) -> Tensor:
    """Number the cells of a regular grid: int64 tensor (1, 1, *space)."""
    found = torch.zeros(x.shape[1:], dtype=torch.int64, device=x.device)
    for axis, n in enumerate(x.shape[1:]):
        cell = torch.arange(n, device=x.device) // side
        found = found * (int(cell[-1]) + 1) + cell.reshape(-1, *(1,) * (x.ndim - 2 - axis))
    return found[None, None]


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators that Captum draws from, and restore them afterwards."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


@contextlib.contextmanager
def _errors(algorithm: str, item: str, target: Target) -> Iterator[None]:
    """Report errors with their place, those of Captum too, and silence its warnings about hooks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError as error:
        raise InputError(f"item '{item}', {target}: Captum's {algorithm}: {error}") from error
    except Exception as error:
        raise InputError(
            f"item '{item}', {target}: Captum's {algorithm} failed ({type(error).__name__}: "
            f"{' '.join(str(error).split())}): change its `arguments`, or choose an algorithm that "
            "works with any network, such as IntegratedGradients or Occlusion"
        ) from error
