"""Provenance: digests of what results depend on, and comparison of what stores were made by."""

import hashlib
import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preddiff.errors import InputError
from preddiff.storage.code import Package, imported_files

PACKAGE = Path(__file__).parents[1]

# Libraries whose versions may change numbers in their last digits.
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "torchvision", "zarr")


def version() -> str:
    """Version of this package."""
    return metadata.version("preddiff")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers come from, without importing them."""
    found = {library: metadata.version(library) for library in _LIBRARIES}
    return {"python": platform.python_version(), **found}


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_arrays(*arrays: NDArray[Any]) -> str:
    """SHA-256 over the types, shapes and values of arrays, as hexadecimal digits."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Keys in which two provenances differ, as `key: found -> wanted`, nested keys dotted."""
    one, other = _flat(found), _flat(wanted)
    return [
        f"{key}: {one.get(key, 'unset')} -> {other.get(key, 'unset')}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict):
            flat |= _flat(part, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = part
    return flat


@cache
def digest_code(*roots: str) -> str:
    """Digest of the code that can change the numbers which some definitions of this package make.

    It covers the definitions that are reached from the roots (`preddiff.storage.code`) in their
    normal form (`preddiff.storage.normal_form`). Messages, docstrings, descriptions of settings,
    comments and white space do not count, and neither does what is not reached. A class counts
    whole. What registries look up is not reached, and has to be among the roots.

    The files are read once, as what runs is imported once.

    Parameters
    ----------
    *roots : str
        Definitions, as `preddiff.stages.explain:explain`, or modules, all of whose definitions
        count, as `preddiff.samplers.conditional`.

    Raises
    ------
    ValueError
        If there is no such definition, or it lies in a module that makes no numbers.
    """
    return digest_json(_package().definitions(roots))[:16]


@cache
def _package() -> Package:
    return Package(PACKAGE)


def digest_module_files(path: Path) -> str:
    """Digest of a user's Python file and of the modules that it imports from its own folder.

    Modules are found statically, and so are those that they import in turn; installed packages are
    not looked at. The bytes of the files count, and their paths relative to the folder.

    Raises
    ------
    InputError
        If the file is missing, or one of them is not Python.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such Python file")
    try:
        files = imported_files(path)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{path}, or a module that it imports, is not Python: {error}") from None
    return digest_json({name: digest_file(file) for name, file in files.items()})
