"""Algorithms of Captum that make maps of an input, and what their signatures accept."""

import functools
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

_INSTALL = "pip install 'preddiff[captum]'"

# Captum's class of averages over noisy inputs, under the name of what it does by default.
SMOOTH, SMOOTHED = "SmoothGrad", "attribution_method"
# Arguments of Captum that the configuration does not set, and why.
REFUSED = {
    "inputs": "it is the item",
    "target": "the key `targets` says what is explained",
    "forward_func": "it is the classifier",
    "model": "it is the classifier",
    "layer": "it is the key `layer`",
    "additional_forward_args": "classifiers take nothing but their input",
    "feature_mask": "it is a grid of cells, whose side is the key `cell_side`",
    "layer_mask": "units of a layer are not grouped",
    "return_convergence_delta": "the delta is always computed, and noted if it is large",
    "attribute_to_layer_input": "name the layer before it instead",
    "custom_attribution_func": "functions cannot be configured",
    "interpretable_model": "functions cannot be configured",
    "similarity_func": "functions cannot be configured",
    "perturb_func": "functions cannot be configured",
    "device_ids": "the device is chosen by the stage",
    "grad_kwargs": "gradients are computed as Captum does by default",
    "return_input_shape": "maps have the shape of the item",
    "show_progress": "the stage shows its progress",
    "verbose": "the stage shows its progress",
}
# What Captum requires and is given here.
_GIVEN = {"inputs", "forward_func", "model", "layer", "baselines", "sliding_window_shapes"}
# Algorithms of the right form that are of no use here: they permute the items of a batch, visit all
# orders of cells, evaluate the layer twice, which their own rules refuse, or have a penalty that
# depends on the scale of the target and cannot be configured.
_UNSUITED = ("FeaturePermutation", "LayerFeaturePermutation", "ShapleyValues", "LayerLRP", "Lime")


def captum_attr() -> Any:
    """Import captum.attr, which takes seconds.

    Raises
    ------
    ValueError
        If Captum is not installed.
    """
    if importlib.util.find_spec("captum") is None:
        raise ValueError(f"Captum is not installed: run {_INSTALL}")
    import captum.attr

    return captum.attr


@functools.cache
def suited() -> Mapping[str, Any]:
    """Algorithms that make maps of an input, by name."""
    module = captum_attr()
    return {
        name: kind
        for name, kind in sorted(vars(module).items())
        if inspect.isclass(kind)
        and issubclass(kind, module.Attribution)
        and name not in _UNSUITED
        and hasattr(kind, "attribute")
        and _is_suited(kind)
    }


def _is_suited(kind: Any) -> bool:
    """Whether an algorithm explains targets, and all that it requires is given here."""
    own, attribute = arguments_of(kind.__init__), arguments_of(kind.attribute)
    required = {
        name
        for name, parameter in {**own, **attribute}.items()
        if parameter.default is inspect.Parameter.empty
    }
    return "target" in attribute and bool({"model", "forward_func"} & {*own}) and required <= _GIVEN


def algorithm_class(name: str) -> Any:
    """Return an algorithm by its name.

    Raises
    ------
    ValueError
        If Captum is not installed, or has no such algorithm.
    """
    found = suited().get(name)
    if found is None:
        version = importlib.metadata.version("captum")
        raise ValueError(
            f"Captum {version} has no algorithm '{name}' that makes maps of an input: it has "
            f"{', '.join(sorted([*suited(), SMOOTH]))}"
        )
    return found


def arguments_of(function: Any) -> dict[str, inspect.Parameter]:
    """Parameters of a method by name, without `self` and `**kwargs`."""
    return {
        name: parameter
        for name, parameter in list(inspect.signature(function).parameters.items())[1:]
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


@functools.cache
def parameters_of(name: str, smoothed: bool) -> dict[str, inspect.Parameter]:
    """Parameters of an algorithm's constructor and of its `attribute`, by name.

    Parameters
    ----------
    name : str
    smoothed : bool
        Whether those of NoiseTunnel are added, which averages the algorithm over noisy inputs.

    Raises
    ------
    ValueError
        If Captum is not installed, or has no such algorithm.
    """
    kind = algorithm_class(name)
    found = {**arguments_of(kind.__init__), **arguments_of(kind.attribute)}
    if smoothed:
        tunnel = captum_attr().NoiseTunnel
        found |= {**arguments_of(tunnel.__init__), **arguments_of(tunnel.attribute)}
    return found
