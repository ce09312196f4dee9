"""Prediction difference analysis of classifiers of images and volumes."""

import importlib
from typing import Any

# Names are imported when first used, so that stages which need no torch start without it.
# `__init__.pyi` tells type checkers what they are.
_MODULES = {
    "Conditional": "samplers.conditional",
    "Explanation": "explanation",
    "Grey": "samplers.grey",
    "InputError": "errors",
    "LinearClassifier": "classifiers.linear",
    "Marginal": "samplers.marginal",
    "PatchGaussian": "samplers.gaussian",
    "TrainingItems": "samplers.module",
    "explain": "api",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
