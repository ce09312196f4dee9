"""Python files of users: what is loaded, what counts, and what is refused."""

import sys
from pathlib import Path

import pytest

from preddiff import user_code
from preddiff.errors import InputError
from preddiff.storage.provenance import digest_file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "helper_of_test.py").write_text("FACTOR = 2\n")
    (tmp_path / "own.py").write_text("from helper_of_test import FACTOR\nvalue = 21 * FACTOR\n")
    yield tmp_path
    for name in ("helper_of_test", "preddiff_user_own"):
        sys.modules.pop(name, None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_a_file_can_import_from_its_folder(project: Path) -> None:
    assert user_code.load(f"{project}/own.py:value") == 42


def test_what_a_file_imports_counts(project: Path) -> None:
    reference = f"{project}/own.py:value"
    assert [path.name for path in user_code.files_of(reference)] == ["own.py", "helper_of_test.py"]
    before = user_code.digest_of(reference)
    (project / "unrelated.py").write_text("x = 1\n")
    assert user_code.digest_of(reference) == before
    (project / "helper_of_test.py").write_text("FACTOR = 3\n")
    assert user_code.digest_of(reference) != before


def test_a_file_alone_has_its_own_digest(tmp_path: Path) -> None:
    file = tmp_path / "alone.py"
    file.write_text("import numpy\nvalue = 1\n")
    assert user_code.digest_of(f"{file}:value") == digest_file(file)


def test_no_file_of_a_folder_hides_a_library(project: Path) -> None:
    (project / "numpy.py").write_text("raise RuntimeError\n")
    (project / "own.py").write_text("import numpy\nvalue = numpy.zeros(2).sum()\n")
    assert user_code.load(f"{project}/own.py:value") == 0


def test_two_folders_with_modules_of_one_name_are_refused(project: Path) -> None:
    user_code.load(f"{project}/own.py:value")
    other = project / "elsewhere"
    other.mkdir()
    (other / "helper_of_test.py").write_text("FACTOR = 5\n")
    (other / "second.py").write_text("from helper_of_test import FACTOR as value\n")
    with pytest.raises(InputError, match="both have a module 'helper_of_test'"):
        user_code.load(f"{other}/second.py:value")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"absent\.py: no such Python file"),
        ("value = 1 +", r"own\.py:value: SyntaxError"),
        ("raise RuntimeError('odd')", r"own\.py:value: RuntimeError: odd"),
        ("other = 1", r"own\.py has no function or class 'value'"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / ("absent.py" if text is None else "own.py")
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        user_code.load(f"{file}:value")
