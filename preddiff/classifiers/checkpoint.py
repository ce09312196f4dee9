"""State dicts of networks: reading them without running code, loading and writing them."""

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

# Keys under which training scripts save the state dict in a larger checkpoint.
_NESTED = ("state_dict", "model")
# Prefix that DataParallel adds to every name.
_PARALLEL = "module."


def read_state_dict(path: Path) -> StateDict:
    """Read a state dict from a `.safetensors` file or one that `torch.save` wrote.

    Files of `torch.save` are read with ``weights_only=True``, so that no code in them is run. A
    state dict inside a checkpoint (`state_dict` or `model`) is found, and the prefix that
    DataParallel adds to the names is removed.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    InputError
        If the file is missing or damaged, contains anything but tensors, or has NaN or infinite
        values.
    """
    try:
        found: Any = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the weights") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: damaged, or contains more than tensors; it is not unpickled, because that "
            "could run code: save only the state dict, torch.save(network.state_dict(), path)"
        ) from None
    except Exception as error:
        # The unpickler raises almost any exception for files that are not checkpoints.
        raise InputError(f"{path}: not readable as weights, or truncated ({error})") from None
    found = next((found[k] for k in _NESTED if isinstance(found, dict) and k in found), found)
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(values, Tensor) and values.layout is torch.strided
        for name, values in found.items()
    ):
        raise InputError(
            f"{path}: not a state dict (a mapping of names to dense tensors); save one by "
            "torch.save(network.state_dict(), path)"
        )
    for name, values in found.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise InputError(f"{path}: '{name}' has values that are NaN or infinite")
    if all(name.startswith(_PARALLEL) for name in found):
        return {name.removeprefix(_PARALLEL): values for name, values in found.items()}
    return dict(found)


def load_state_dict(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network, in place.

    Parameters
    ----------
    network : Module
    weights : mapping of str to Tensor
        As `read_state_dict` returns them.
    source : str
        Where the weights come from, for the error message.

    Raises
    ------
    InputError
        If names or shapes do not match the network's; the message lists the first differences.
    """
    own = network.state_dict()
    if all(name.startswith(_PARALLEL) for name in own) and not any(name in own for name in weights):
        # The prefix, removed on reading, is part of this network's own names.
        weights = {f"{_PARALLEL}{name}": values for name, values in weights.items()}
    # Checkpoints from before torch 0.4.1, such as torchvision's DenseNets, lack these counters.
    counts = {n: own[n] for n in own if n.endswith("num_batches_tracked") and n not in weights}
    weights = {**weights, **counts}
    problems = [
        *(f"'{name}' is missing" for name in own if name not in weights),
        *(f"'{name}' is not in the network" for name in weights if name not in own),
        *(
            f"'{name}' has shape {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ),
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(
            f"{source} does not fit the network: {'; '.join(problems[:3])}{more}. They may be for "
            "another architecture, or another number of classes (set the classifier's `classes`)"
        )
    network.load_state_dict(dict(weights))


def write_state_dict(network: nn.Module, path: Path) -> None:
    """Write a network's state dict as a `.safetensors` file.

    Parameters
    ----------
    network : Module
    path : Path
    """
    state = {name: values.contiguous() for name, values in network.state_dict().items()}
    with write_atomically(path) as temporary:
        # safetensors refuses tensors that share memory, so tied weights are copied.
        safetensors.torch.save_file({n: v.clone() for n, v in state.items()}, temporary)
