"""State dicts: reading them without unpickling, fitting them to a network, writing them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from preddiff.errors import InputError
from preddiff.storage.files import write_atomically

StateDict = dict[str, Tensor]

# Keys under which training scripts put a network's state dict beside other things.
_NESTED = ("state_dict", "model")
# What DataParallel puts before every name.
_PARALLEL = "module."


def read_state_dict(path: Path) -> StateDict:
    """Read a state dict: `.safetensors`, or what `torch.save` wrote (tensors only, no code).

    Raises
    ------
    InputError
        If the file is missing, damaged, holds anything but tensors, or values that are not finite.
    """
    try:
        found: Any = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of weights") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds more than tensors, or is damaged; it is not unpickled, since that "
            "would run its code: save the state dict alone, torch.save(network.state_dict(), path)"
        ) from None
    except Exception as error:
        # Of a file that is no checkpoint the unpickler raises nearly anything.
        raise InputError(f"{path}: not readable as weights, or truncated ({error})") from None
    found = next((found[k] for k in _NESTED if isinstance(found, dict) and k in found), found)
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(values, Tensor) and values.layout is torch.strided
        for name, values in found.items()
    ):
        raise InputError(f"{path}: not a state dict, which maps names to tensors")
    for name, values in found.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise InputError(f"{path}: '{name}' has values that are NaN or infinite")
    if all(name.startswith(_PARALLEL) for name in found):
        return {name.removeprefix(_PARALLEL): values for name, values in found.items()}
    return dict(found)


def load_state_dict(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network.

    Raises
    ------
    InputError
        If they belong to another architecture; the message names the first differences.
    """
    own = network.state_dict()
    if all(name.startswith(_PARALLEL) for name in own) and not any(name in own for name in weights):
        # The prefix, which reading takes off, is the network's own: it wraps another.
        weights = {f"{_PARALLEL}{name}": values for name, values in weights.items()}
    # Checkpoints from before torch 0.4.1, as torchvision's of DenseNets, have no such counts.
    counts = {n: own[n] for n in own if n.endswith("num_batches_tracked") and n not in weights}
    weights = {**weights, **counts}
    problems = [
        *(f"'{name}' is missing" for name in own if name not in weights),
        *(f"'{name}' is unknown to the network" for name in weights if name not in own),
        *(
            f"'{name}' has shape {tuple(weights[name].shape)}, the network {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ),
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(
            f"{source} does not fit the network: {'; '.join(problems[:3])}{more}. Is it another "
            "architecture, or another number of classes (name them in the classifier's classes)?"
        )
    network.load_state_dict(dict(weights))


def write_state_dict(network: nn.Module, path: Path) -> None:
    """Write a network's state dict as `.safetensors`."""
    state = {name: values.contiguous() for name, values in network.state_dict().items()}
    with write_atomically(path) as temporary:
        # Tied weights are written once for each name.
        safetensors.torch.save_file({n: v.clone() for n, v in state.items()}, temporary)
