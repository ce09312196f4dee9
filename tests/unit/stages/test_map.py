"""Maps are computed in shards, resumed, repaired and set aside, always with the same bits."""

import os
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from preddiff.cli import main
from preddiff.errors import InputError
from preddiff.methods.sensitivity import Sensitivity
from preddiff.stages import map as stage
from preddiff.stages import verify
from preddiff.storage.aside import stores_aside
from preddiff.storage.maps import MapStore, open_relevance
from tests.study.cohort import write_cohort

ITEMS = 8


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    run("prepare-digits", "--out", folder / "data.zarr")
    run("train-digits", "--data", folder / "data.zarr", "--epochs", 1, "--out", folder / "network")
    data = ("--data", folder / "data.zarr", "--classifier", folder / "network")
    run("predict", *data, "--out", folder / "predictions.tsv")
    return folder


def open_maps(inputs: Path, out: Path, *settings: object) -> None:
    data = ("--data", inputs / "data.zarr", "--classifier", inputs / "network")
    usual = ("--method", "sensitivity", "--items", ITEMS)
    predictions = ("--predictions", inputs / "predictions.tsv")
    run("open-maps", *data, *predictions, *usual, *settings, "--out", out)


@pytest.fixture(scope="module")
def whole(inputs: Path) -> bytes:
    """Maps that one job computed."""
    open_maps(inputs, inputs / "relevance/whole.zarr")
    run("map", inputs / "relevance/whole.zarr")
    return bits(inputs / "relevance/whole.zarr")


def bits(store: Path) -> bytes:
    found = xr.open_zarr(store)
    return b"".join(found[name].values.tobytes() for name in ("relevance", "stderr", "prediction"))


def test_maps_are_gradients(inputs: Path, whole: bytes) -> None:
    found = xr.open_zarr(inputs / "relevance/whole.zarr")
    assert found["relevance"].dims == ("item", "target", "y", "x")
    assert found["relevance"].shape == (ITEMS, 1, 8, 8)
    assert (found["relevance"] > 0).any(("y", "x")).all() and not found["stderr"].any()
    assert "prediction" in found.data_vars and found["prediction"].notnull().all()
    # Gradients are no evidence in bits.
    assert "units" not in found["relevance"].attrs


def test_shards_in_any_order_give_the_same_bits(inputs: Path, whole: bytes, tmp_path: Path) -> None:
    store = tmp_path / "relevance/maps.zarr"
    open_maps(inputs, store)
    for first, last in ((5, 100), (0, 2), (2, 5)):
        marker = tmp_path / f"relevance/maps.done/items-{first}.json"
        run("map", store, "--first", first, "--last", last, "--marker", marker)
        assert marker.exists()
    assert bits(store) == whole
    assert not list((tmp_path / "relevance/maps.started").iterdir())


def test_a_job_that_dies_is_resumed(
    inputs: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, marker = tmp_path / "relevance/maps.zarr", tmp_path / "marker.json"
    open_maps(inputs, store)
    maps = Sensitivity.maps
    seen: list[str] = []

    def until_the_fourth(self, nodes, x, item, targets, seed):  # type: ignore[no-untyped-def]
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(item)
        return maps(self, nodes, x, item, targets, seed)

    with monkeypatch.context() as patch:
        patch.setattr(Sensitivity, "maps", until_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            stage.compute_maps(store, 0, None, marker)
    assert not marker.exists()
    assert MapStore(store).missing(range(ITEMS)) == list(range(3, ITEMS))
    with pytest.raises(InputError, match=f"5 of {ITEMS} items are not computed yet"):
        open_relevance(store)
    seen.clear()

    def the_rest(self, nodes, x, item, targets, seed):  # type: ignore[no-untyped-def]
        seen.append(item)
        return maps(self, nodes, x, item, targets, seed)

    monkeypatch.setattr(Sensitivity, "maps", the_rest)
    stage.compute_maps(store, 0, None, marker)
    assert len(seen) == ITEMS - 3 and marker.exists()
    assert bits(store) == whole


def test_damage_is_found_and_repaired(
    inputs: Path, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "relevance/maps.zarr"
    open_maps(inputs, store)
    marker = tmp_path / "relevance/maps.done/items-0.json"
    run("map", store, "--marker", marker)
    (file,) = (store / "relevance").glob("c.3.*")
    os.truncate(file, file.stat().st_size - 1)
    (store / "stderr").joinpath("c.5.0.0.0").unlink()
    with pytest.raises(SystemExit):
        run("verify", store)
    assert capsys.readouterr().out.count("array '") == 2
    parser = ArgumentParser()
    verify.add_arguments(parser)
    verify.run(parser.parse_args([str(store), "--repair"]))
    assert not marker.exists()
    assert MapStore(store).missing(range(ITEMS)) == [3, 5]
    run("map", store)
    assert bits(store) == whole


def test_results_of_other_settings_are_set_aside_and_come_back(
    inputs: Path, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "relevance/maps.zarr"
    open_maps(inputs, store)
    run("map", store, "--marker", tmp_path / "relevance/maps.done/items-0.json")
    open_maps(inputs, store, "--targets", "logit:3")
    assert "replaced, since this changed:" in capsys.readouterr().err
    assert MapStore(store).missing(range(ITEMS)) == list(range(ITEMS))
    assert not list((tmp_path / "relevance/maps.done").iterdir())
    assert [one.store for one in stores_aside(tmp_path)] == [store]
    run("status", tmp_path)
    assert f"0 of {ITEMS}" in capsys.readouterr().out
    open_maps(inputs, store)
    assert "moved back" in capsys.readouterr().err
    assert bits(store) == whole


@pytest.mark.parametrize(
    "settings",
    [
        ("--method", "concepts", "--targets", "logit:3", "--layer", "conv9"),
        ("--method", "feature-inversion", "--layer", "conv9"),
        ("--method", "feature-inversion", "--inversion-layer", "conv9"),
    ],
)
def test_unknown_layers_are_reported_when_a_store_is_opened(
    inputs: Path, tmp_path: Path, settings: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        open_maps(inputs, tmp_path / "relevance/maps.zarr", *settings)
    assert "the network has no layer 'conv9'" in capsys.readouterr().err
    assert not (tmp_path / "relevance/maps.zarr").exists()


def test_items_that_stay_are_kept(inputs: Path, whole: bytes, tmp_path: Path) -> None:
    store = tmp_path / "relevance/maps.zarr"
    open_maps(inputs, store, "--items", 5)
    run("map", store)
    open_maps(inputs, store)
    assert MapStore(store).missing(range(ITEMS)) == [5, 6, 7]


def test_changed_inputs_are_refused(inputs: Path, tmp_path: Path) -> None:
    store = tmp_path / "relevance/maps.zarr"
    open_maps(inputs, store)
    network = tmp_path / "network"
    data = ("--data", inputs / "data.zarr")
    run("train-digits", *data, "--epochs", 1, "--seed", 5, "--out", network)
    zarr_json = (store / "zarr.json").read_text()
    relative = os.path.relpath(inputs.resolve() / "network", store.parent.resolve())
    (store / "zarr.json").write_text(zarr_json.replace(relative, "../network"))
    with pytest.raises(InputError, match="since the store was opened, its classifier changed"):
        stage.compute_maps(store)


def test_volumes_and_a_linear_classifier(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "cohort")
    run("prepare", table, "--out", tmp_path / "data.zarr")
    train = ("train", "--data", tmp_path / "data.zarr", "--slices", 4, 9, "--folds", 3)
    run(*train, "--out", tmp_path / "classifier")
    data = ("--data", tmp_path / "data.zarr", "--classifier", tmp_path / "classifier")
    out = tmp_path / "relevance/maps.zarr"
    run("open-maps", *data, "--method", "sensitivity", "--targets", "logit:patient", "--out", out)
    run("map", out)
    found = xr.open_zarr(out)["relevance"]
    weights = np.load(tmp_path / "classifier/weights.npy")[0]
    assert found.dims == ("item", "target", "x", "y", "z")
    for maps in found.values:
        assert np.allclose(maps[0], np.abs(weights), rtol=1e-6)


def test_an_explanation_can_change_its_method_and_change_back(
    inputs: Path, whole: bytes, tmp_path: Path
) -> None:
    expectations, store = tmp_path / "expectations/maps.zarr", tmp_path / "relevance/maps.zarr"
    data = ("--data", inputs / "data.zarr", "--classifier", inputs / "network")
    settings = ("--items", ITEMS, "--targets", "logit:3", "--kind", "marginal", "--k", 4)
    run("open", *data, *settings, "--samples", 2, "--out", expectations)
    shard = tmp_path / "expectations/maps.done/items-0.json"
    run("explain", expectations, "--marker", shard)
    run("relevance", expectations, "--out", store)
    windows = xr.open_zarr(store)["relevance"].values
    opened = tmp_path / "relevance/maps.opened"
    open_maps(inputs, store, "--marker", opened)
    # Without the shard's marker, the workflow computes the relevance again if the method is back.
    assert not shard.exists() and opened.exists()
    run("map", store, "--marker", tmp_path / "relevance/maps.done/items-0.json")
    assert bits(store) == whole
    run("relevance", expectations, "--out", store)
    assert np.array_equal(xr.open_zarr(store)["relevance"].values, windows)
    assert not opened.exists() and not list((tmp_path / "relevance/maps.done").iterdir())
    open_maps(inputs, store)
    assert bits(store) == whole
