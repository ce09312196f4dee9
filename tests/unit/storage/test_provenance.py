"""Provenance: digests of files, arrays, settings and users' files, and versions."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from preddiff.errors import InputError
from preddiff.storage.provenance import (
    differences,
    digest_arrays,
    digest_file,
    digest_json,
    digest_module_files,
    versions,
)

# Digests of files, arrays and settings.


def test_the_digest_of_a_file_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_file(tmp_path / "file") == expected


def test_arrays_differ_by_values_shapes_and_types_but_not_by_layout() -> None:
    values = np.arange(6.0).reshape(2, 3)
    others = [values.T, values.reshape(3, 2), values.astype("f4"), -values, values[:1]]
    digests = {digest_arrays(array) for array in [values, *others]}
    assert len(digests) == 6
    assert digest_arrays(np.asfortranarray(values)) == digest_arrays(values)
    assert digest_arrays(values, values) != digest_arrays(values)


def test_the_order_of_keys_does_not_change_a_digest() -> None:
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    expected = hashlib.sha256(json.dumps({"a": 1}).encode()).hexdigest()
    assert digest_json({"a": 1}) == expected != digest_json({"a": 2})


def test_differences_name_nested_keys() -> None:
    found = differences({"a": 1, "b": {"c": 2}, "d": 3}, {"a": 1, "b": {"c": 4}, "e": 5})
    assert found == ["b.c: 2 -> 4", "d: 3 -> unset", "e: unset -> 5"]


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["numpy"] == np.__version__
    assert torch.__version__.partition("+")[0] == found["torch"].partition("+")[0]
    assert {"scipy", "scikit-learn", "torchvision", "zarr"} <= found.keys()


def test_versions_import_nothing() -> None:
    code = (
        "import sys; from preddiff.storage.provenance import versions; versions();"
        "print(*{'torch', 'torchvision', 'zarr', 'sklearn', 'scipy'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


# A user's own files.


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's file that imports others of its folder."""
    texts = {
        "main.py": "import numpy\nimport direct\nfrom package import near\n",
        "direct.py": "import main\n",
        "package/__init__.py": "",
        "package/near.py": "def f():\n    from .indirect import x\n",
        "package/indirect.py": "x = 1\n",
        "package/unused.py": "x = 1\n",
        "unused.py": "import direct\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["main.py", "direct.py", "package/__init__.py", "package/near.py", "package/indirect.py"],
)
def test_a_change_of_an_imported_file_is_another_module(name: str, project: Path) -> None:
    before = digest_module_files(project / "main.py")
    (project / name).write_text((project / name).read_text() + "y = 1\n")
    assert digest_module_files(project / "main.py") != before


def test_files_that_are_not_imported_do_not_count(project: Path) -> None:
    before = digest_module_files(project / "main.py")
    for name in ("unused.py", "package/unused.py", "new.py", "notes.txt"):
        (project / name).write_text("x = 2\n")
    moved = shutil.copytree(project, project / "elsewhere")
    assert digest_module_files(project / "main.py") == before
    assert digest_module_files(moved / "main.py") == before


def test_files_that_cannot_be_read_as_python_are_named(project: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.py: no such Python file"):
        digest_module_files(project / "missing.py")
    (project / "direct.py").write_text("x = (\n")
    with pytest.raises(InputError, match=r"main\.py, or a module that it imports.*direct\.py"):
        digest_module_files(project / "main.py")
