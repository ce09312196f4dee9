"""Provenance: digests of what results depend on, and comparison of what stores were made by."""

import ast
import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACKAGE = Path(__file__).parents[1]


def version() -> str:
    """Version of this package."""
    return metadata.version("preddiff")


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
def digest_code(*modules: str) -> str:
    """Digest of the sources of a module and of all of this package that it imports.

    Comments, white space and docstrings do not count: a rule that has this digest among its
    parameters runs again when its code has changed, and only then.

    Parameters
    ----------
    module : str
        Dotted name, as `preddiff.stages.train`.
    """
    sources: dict[str, str] = {}
    for module in modules:
        _collect(module.partition(":")[0], sources)
    return digest_json(sources)[:16]


def _collect(module: str, sources: dict[str, str]) -> None:
    path = _source(module)
    if module in sources or path is None:
        return
    tree = ast.parse(path.read_text())
    sources[module] = ast.dump(_without_docstrings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _collect(alias.name, sources)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # The package's own __init__ only lists names, lazily.
            if node.module != PACKAGE.name:
                _collect(node.module, sources)
            for alias in node.names:
                _collect(f"{node.module}.{alias.name}", sources)


def _source(module: str) -> Path | None:
    package, *parts = module.split(".")
    if package != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    candidates = (base / "__init__.py", base.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            del body[0]
    return tree


def digest_module_files(path: Path) -> str:
    return digest_file(path)
