"""A network of the user's own, from a factory in a Python file."""

import importlib.util
import sys
from pathlib import Path

from torch import nn

from preddiff.errors import InputError


def build(path: Path, factory: str) -> nn.Module:
    """Call a function without arguments that returns a network.

    The file is run as Python, as its author means it to be.

    Parameters
    ----------
    path : Path
    factory : str
        Name of the function (or class) in the file.

    Raises
    ------
    InputError
        If the file or the function is missing or fails, or it returns anything but an nn.Module.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such Python file with a network")
    spec = importlib.util.spec_from_file_location("preddiff_user_module", path)
    assert spec is not None and spec.loader is not None
    namespace = importlib.util.module_from_spec(spec)
    # Data classes and others look their module up.
    sys.modules[spec.name] = namespace
    try:
        spec.loader.exec_module(namespace)
        function = getattr(namespace, factory, None)
        network = None if function is None else function()
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    if function is None:
        raise InputError(f"{path} has no function '{factory}'")
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{path}: {factory}() returned a {type(network).__name__}, not a torch.nn.Module"
        )
    return network
