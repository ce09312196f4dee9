"""Info: what a store holds, how much of it is computed, and its provenance."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from preddiff.stages import info
from tests.unit.storage.small import fill, make_store


def test_a_store_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "e.zarr")
    fill(store, [0])
    fill(store, [2], [1])
    parser = ArgumentParser()
    info.add_arguments(parser)
    info.run(parser.parse_args([str(store.path)]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(store.path)
    assert any(
        line.startswith("  mean           float32    (item 3, target 2, window_y 4, window_x 5), ")
        for line in lines
    )
    assert "  1 of 3 items, 5 of 12 blocks (42%)" in lines
    assert lines[lines.index("Provenance") + 1 :] == [
        '  code: "1f3a"', '  items: "a-b-c"', "  k: 3"
    ]  # fmt: skip
