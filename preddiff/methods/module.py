"""Methods from Python files of the user: functions that compute a map for a target and an item."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from preddiff import user_code
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps, MethodSettings, Nodes
from preddiff.targets import Target


@METHODS.register
class ModuleMethod(MethodSettings):
    """Your own method, from a Python file.

    The function is called with `value` and `x`. `x` is the item, a float32 tensor
    (channels, *space), standardised for the classifier. `value` is a differentiable function, which
    returns the target's values (n,) for inputs (n, channels, *space). The function returns the map,
    an array or tensor (*space), or a tuple of the map and its standard error.
    """

    method: Literal["module"] = Field(description="module")
    module: user_code.Reference = Field(
        description="path/to/file.py:function, a function of (value, x) that returns a map"
    )

    def input_files(self) -> list[Path]:
        """List the Python file and the modules that it imports from its folder."""
        return user_code.files_of(self.module)

    def provenance(self) -> dict[str, Any]:
        """Name of the function, and digest of its file and imports."""
        return {
            "method": self.method,
            "function": user_code.name_of(self.module),
            "files": user_code.digest_of(self.module),
        }

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Call the function for each target."""
        function = _load(self.module)
        with torch.no_grad():
            values = nodes(x[None].clone(), item)[0]
        found = [
            self._map(function, _value(nodes, item, number), x) for number in range(len(targets))
        ]
        maps, errors = zip(*found, strict=True)
        return Maps(values, torch.stack(maps), torch.stack(errors))

    def _map(
        self, function: Callable[..., Any], value: Callable[[Tensor], Tensor], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the map of a target and its standard error, each (*space)."""
        with user_code.errors_of(self.module):
            # A copy, since the function may change it in place.
            found = function(value, x.clone())
        pair = found if isinstance(found, tuple) else (found, None)
        if len(pair) != 2:
            raise InputError(
                f"{self.module} returned {len(pair)} values: return a map, or a map and its error"
            )
        relevance = self._checked(pair[0], x)
        error = torch.zeros_like(relevance) if pair[1] is None else self._checked(pair[1], x)
        return relevance, error

    def _checked(self, values: Any, x: Tensor) -> Tensor:
        found = torch.as_tensor(values).detach().to(x.device, torch.float64)
        if found.shape != x.shape[1:]:
            raise InputError(
                f"{self.module} returned a map of shape {tuple(found.shape)} for an item of shape "
                f"{tuple(x.shape)}: it must have one value per voxel, shape {tuple(x.shape[1:])}"
            )
        return found


def _load(reference: str) -> Callable[..., Any]:
    function = user_code.load(reference)
    if not callable(function):
        raise InputError(f"{reference} is a {type(function).__name__}, not a function")
    return function


def _value(nodes: Nodes, item: str, number: int) -> Callable[[Tensor], Tensor]:
    """Value of one target, as a function of inputs (n, channels, *space)."""
    return lambda inputs: nodes(inputs, item)[:, number]
