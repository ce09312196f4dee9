"""Tables of text: cells are kept as they are, and errors name the file and the line."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.datasets.tables import find_column, read_table
from preddiff.errors import InputError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(TEXT, min_size=n, max_size=n))),
    st.sampled_from([".tsv", ".csv", ".CSV", ".txt"]),
)
def test_cells_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / f"table{suffix}"
    # A last row that is not empty, since those at the end are left out.
    rows = [[f"column {n}" for n in range(len(rows[0]) if rows else 2)], *rows]
    rows.append(["end"] * len(rows[0]))
    with path.open("w", newline="", encoding="utf-8") as file:
        delimiter = "," if suffix.lower() == ".csv" else "\t"
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows(rows)
    table = read_table(path)
    assert [list(table), *table.to_numpy().tolist()] == rows


@pytest.mark.parametrize("text", ["nan", "NA", "n/a", "1e3", "007", "None", "true", " x "])
def test_cells_stay_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.tsv").write_text(f"a\tb\n{text}\t1\n")
    assert read_table(tmp_path / "a.tsv").to_dict("records") == [{"a": text, "b": "1"}]


def test_rows_know_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("\ufeffa\tb\r\n1\t2\r\n\r\n3\r\n\r\n \r\n\t\r\n")
    table = read_table(tmp_path / "a.tsv")
    assert table.index.to_list() == [2, 3, 4, 5, 6] and table.index.name == "line"
    assert table["a"].to_list() == ["1", "", "3", "", " "]
    assert table["b"].to_list() == ["2", "", "", "", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.tsv: no such table; look elsewhere"),
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"a\tb\n\xff\xe9\t2\n", "not UTF-8"),
        ("a\tb\n1\t2\n".encode("utf-16"), "not UTF-8"),
        (b"a\tb\n1\t2\n3\t4\t5\n", "line 3: the row has more cells than the header"),
        (b"a\tb\n1\t2\t\n3\t4\t\n", "rows have more cells than the header"),
        (b"a\tb\n1\t2\n3\t4\t\n", "line 3: the row has more cells"),
        (b'a\tb\n"1\t2\n3\t4\n', "EOF inside string"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_table(path, hint="look elsewhere")
    assert str(error.value).startswith(str(path))


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not readable as a table"):
        read_table(tmp_path)


def test_the_first_of_several_names_is_the_column(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("b\tc\n1\t2\n")
    table = read_table(path)
    assert find_column(table, path, "a", "c", "b") == "c"
    with pytest.raises(InputError, match=r"a\.tsv: there is no column 'x'; it has b, c$"):
        find_column(table, path, "x", "y")


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", ","), ("a.csv", "\t"), ("a", ",")])
def test_a_wrong_separator_is_noticed(tmp_path: Path, name: str, separator: str) -> None:
    path = tmp_path / name
    path.write_text(f"file{separator}class\na.png{separator}cat\n")
    with pytest.raises(InputError, match=r"\.csv is separated by commas, any other by tabs"):
        find_column(read_table(path), path, "file")
