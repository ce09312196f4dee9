"""Python files of users, with networks, samplers and methods that a configuration refers to."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints

from preddiff.errors import InputError
from preddiff.storage.code import imported_files
from preddiff.storage.provenance import digest_file, digest_module_files

# Reference to an object in a Python file.
Reference = Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")]


def file_of(reference: str) -> Path:
    """Return the Python file of a reference, `path/to/file.py:name`."""
    return Path(reference.rpartition(":")[0])


def name_of(reference: str) -> str:
    """Return the name of the object of a reference, `path/to/file.py:name`."""
    return reference.rpartition(":")[2]


def files_of(reference: str) -> list[Path]:
    """List a user's file and the modules that it imports from its folder.

    If the file cannot be read, it is listed alone; the error is reported when it is loaded.
    """
    path = file_of(reference)
    try:
        return [path, *(file for file in imported_files(path).values() if file != path)]
    except (OSError, SyntaxError, ValueError):
        return [path]


def digest_of(reference: str) -> str:
    """Compute a digest of a user's file and the modules that it imports from its folder.

    Raises
    ------
    InputError
        If a file is missing or is not valid Python.
    """
    path = file_of(reference)
    # Without imports, the digest is that of earlier versions.
    alone = path.is_file() and files_of(reference) == [path]
    return digest_file(path) if alone else digest_module_files(path)


def load(reference: str) -> Any:
    """Run a user's Python file and return one of its objects.

    The file can import modules from its own folder.

    Parameters
    ----------
    reference : str
        `path/to/file.py:name`.

    Raises
    ------
    InputError
        If the file or the object is missing, if running the file fails, or if its folder and that
        of another file of the user both have a module of the same name.
    """
    path, name = file_of(reference), name_of(reference)
    if not path.is_file():
        raise InputError(f"{path}: no such Python file")
    path = path.resolve()
    _require_distinct_modules(path.parent)
    if str(path.parent) not in sys.path:
        # At the end, so that files of the folder do not hide libraries.
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"preddiff_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes, for example, look up their module there.
    sys.modules[spec.name] = module
    with errors_of(reference):
        spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise InputError(f"{path} has no function or class '{name}'")
    return getattr(module, name)


class errors_of:  # noqa: N801
    """Context manager that reports errors of a user's code with the reference of the code."""

    def __init__(self, reference: str) -> None:
        self.reference = reference

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise InputError(f"{self.reference}: {type(error).__name__}: {error}") from error


def _require_distinct_modules(folder: Path) -> None:
    """Check that no module of a folder has the name of one in another user folder."""
    for name in _module_names(folder):
        found = getattr(sys.modules.get(name), "__file__", None)
        if found is None:
            continue
        home = Path(found).resolve().parent
        home = home.parent if Path(found).name == "__init__.py" else home
        if home != folder and str(home) in _user_folders():
            raise InputError(
                f"{folder} and {home} both have a module '{name}', of which only one can be "
                "imported: rename one of them"
            )


def _user_folders() -> set[str]:
    modules = [m for n, m in list(sys.modules.items()) if n.startswith("preddiff_user_")]
    return {str(Path(str(m.__file__)).resolve().parent) for m in modules}


def _module_names(folder: Path) -> Iterator[str]:
    yield from (path.stem for path in folder.glob("*.py"))
    yield from (path.parent.name for path in folder.glob("*/__init__.py"))
