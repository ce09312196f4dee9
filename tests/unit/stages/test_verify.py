"""Verify: what is damaged is named, and no marker outlives the blocks that it tells of."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from preddiff.errors import InputError
from preddiff.stages import verify
from preddiff.storage.expectations import ExpectationStore
from preddiff.storage.markers import Marker, marker_folder, markers_of
from tests.unit.storage.small import fill, make_store


@pytest.fixture
def store(tmp_path: Path) -> ExpectationStore:
    """A complete store, with the markers of two shards."""
    made = make_store(tmp_path / "e.zarr", "abcd")
    fill(made, range(4))
    marker_folder(made.path).mkdir()
    for first, last in ((0, 2), (2, None)):
        marker = Marker(first, last, tuple(made.items[first:last]))
        (marker_folder(made.path) / f"{first}.json").write_text(marker.to_json({}))
    return made


def run(*arguments: object) -> None:
    parser = ArgumentParser()
    verify.add_arguments(parser)
    verify.run(parser.parse_args([str(argument) for argument in arguments]))


def damage(store: ExpectationStore, item: int) -> None:
    (file,) = (store.path / "change").glob(f"c.{item}.*")
    content = bytearray(file.read_bytes())
    content[5] ^= 4
    file.write_bytes(content)


def markers(store: ExpectationStore) -> list[str]:
    return [path.name for path, _ in markers_of(store.path)]


def test_a_good_store_is_left_as_it_is(
    store: ExpectationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run(store.path, "--repair")
    assert capsys.readouterr().out == f"{store.path}: everything that was written can be read\n"
    assert markers(store) == ["0.json", "2.json"]


@pytest.mark.parametrize(("item", "left"), [(1, ["2.json"]), (3, ["0.json"])])
def test_repairing_discards_the_block_and_its_shard_only(
    store: ExpectationStore, item: int, left: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(store, item)
    with pytest.raises(InputError, match=r"damaged parts: 1; with --repair"):
        run(store.path)
    assert markers(store) == ["0.json", "2.json"]
    run("--repair", store.path)
    line = f"{store.path}: item '{store.items[item]}', block 0\n"
    assert capsys.readouterr().out.count(line) == 2
    assert markers(store) == left
    assert [len(store.missing(n)) for n in range(4)] == [int(n == item) for n in range(4)]


def test_a_marker_is_gone_before_its_blocks_are(
    store: ExpectationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    damage(store, 1)
    monkeypatch.setattr(ExpectationStore, "discard", stop)
    with pytest.raises(KeyboardInterrupt):
        run(store.path, "--repair")
    assert markers(store) == ["2.json"]


def test_a_block_that_was_computed_again_meanwhile_is_kept(
    store: ExpectationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(store, 1)
    claim = verify.claim

    def claim_after_a_job(path: Path, first: int, last: int):
        store.discard(1, store.damaged(1))
        fill(store, [1])
        return claim(path, first, last)

    monkeypatch.setattr(verify, "claim", claim_after_a_job)
    run(store.path, "--repair")
    assert store.missing(1) == []
    assert markers(store) == ["0.json", "2.json"]


def test_stores_after_one_that_cannot_be_opened_are_verified(
    store: ExpectationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="stores that cannot be opened: 1"):
        run(tmp_path / "missing.zarr", store.path)
    missing, good = capsys.readouterr().out.splitlines()
    assert missing.startswith(f"{tmp_path}/missing.zarr: no such store")
    assert good.endswith("can be read")
