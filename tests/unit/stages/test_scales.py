"""Scales: the table and the figure of a data store and of a Gaussian."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from preddiff.cli import main
from preddiff.datasets.items import Items
from preddiff.datasets.slab import Slab
from preddiff.samplers.gaussian_store import GaussianSettings, fit_gaussian, load_gaussian
from tests.unit.datasets.stores import write_store

AFFINE = np.diag([2.0, 2, 2, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data stores of smooth volumes and of images, and Gaussians of the volumes."""
    made = tmp_path_factory.mktemp("scales")
    generator = np.random.default_rng(5)
    noise = generator.normal(size=(4, 14, 13, 12)).astype(np.float32)
    volumes = np.stack([ndimage.gaussian_filter(one, 1.0, mode="wrap") for one in noise])
    write_store(made / "smooth.zarr", volumes, affine=AFFINE)
    write_store(made / "rough.zarr", noise, affine=AFFINE)
    write_store(made / "none.zarr", noise, affine=AFFINE, training=[False] * 4)
    images = generator.integers(0, 255, size=(5, 3, 24, 9)).astype(np.uint8)
    write_store(made / "images.zarr", images, scale=1 / 255)
    for name, settings in {
        "everywhere": GaussianSettings(patches=4000),
        "located": GaussianSettings(patches=4000, grid=(2, 2, 1), cell_patches=500),
    }.items():
        out = made / f"{name}.zarr"
        fit_gaussian(made / "smooth.zarr", settings, 5, Slab(slices=(0, 13)), 0, 1, out)
    return made


def run(*arguments: object) -> None:
    main(["scales", *map(str, arguments)])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def regressed(items: np.ndarray, k: int, l: int) -> float:
    """Share of the variance of windows that remains after a regression on their surroundings."""
    views = np.lib.stride_tricks.sliding_window_view(items, (l,) * 3, axis=(1, 2, 3))
    patches = views.reshape(-1, l**3).astype(np.float64)
    patches = patches - patches.mean(axis=0)
    numbers = np.arange(l**3).reshape(l, l, l)
    margin = (l - k) // 2
    window = numbers[(slice(margin, margin + k),) * 3].reshape(-1)
    x, y = np.delete(patches, window, axis=1), patches[:, window]
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float((residuals**2).sum() / (y**2).sum())


def test_a_data_store_has_a_table_and_a_figure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scales.tsv"
    options = ("--margin", 1, "--patches", 6000, "--shrinkage", 0)
    run("--data", folder / "smooth.zarr", "--k", 3, 1, 2, *options, "--out", out)
    table = pd.read_csv(out, sep="\t")
    assert list(table["k"]) == [1, 2, 3]
    assert list(table["l"]) == [3, 4, 5]
    items = Items(folder / "smooth.zarr").read(range(4))[:, 0]
    for row in table.itertuples():
        expected = regressed(items, row.k, row.l)
        assert row.share_remaining == pytest.approx(expected, rel=0.15)
        assert row.share_foretold == pytest.approx(1 - row.share_remaining)
        assert row.sd_remaining == pytest.approx(row.sd * row.share_remaining**0.5, rel=1e-4)
    assert table["sd"].to_numpy() == pytest.approx(items.std(), rel=0.1)
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert out.with_suffix(".pdf").read_bytes()[:4] == b"%PDF"
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[1:]] == [["1", "3"], ["2", "4"], ["3", "5"]]


def test_smooth_volumes_are_foretold_and_noise_is_not(folder: Path, tmp_path: Path) -> None:
    shares = {}
    for name in ("smooth", "rough"):
        out = tmp_path / f"{name}.tsv"
        run("--data", folder / f"{name}.zarr", "--k", 1, "--patches", 6000, "--out", out)
        (shares[name],) = pd.read_csv(out, sep="\t")["share_foretold"]
    assert shares["rough"] < 0.1 < 0.9 < shares["smooth"]


def test_sides_that_fit_are_listed_by_default(folder: Path, tmp_path: Path) -> None:
    # Images of 24 x 9 pixels and three channels.
    run("--data", folder / "images.zarr", "--patches", 500, "--out", tmp_path / "images.tsv")
    table = pd.read_csv(tmp_path / "images.tsv", sep="\t")
    assert list(table["k"]) == [1, 2, 3, 5]
    assert table["share_remaining"].between(0, 1).all()


def test_a_gaussian_store_gives_what_the_data_do(folder: Path, tmp_path: Path) -> None:
    options = ("--k", 1, 3, "--margin", 1)
    run("--gaussian", folder / "everywhere.zarr", *options, "--out", tmp_path / "a.tsv")
    data = ("--data", folder / "smooth.zarr", "--patches", 4000)
    run(*data, *options, "--out", tmp_path / "b.tsv")
    assert (tmp_path / "a.tsv").read_text() == (tmp_path / "b.tsv").read_text()


def test_a_gaussian_by_location_is_summarised(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scales.tsv"
    run("--gaussian", folder / "located.zarr", "--margin", 1, "--out", out)
    table = pd.read_csv(out, sep="\t")
    assert list(table["k"]) == [1, 2, 3]
    assert (table["least_remaining"] < table["share_remaining"]).all()
    assert (table["share_remaining"] < table["most_remaining"]).all()
    # An independent computation for k = 1: what remains is one over the diagonal of the precision.
    gaussian = load_gaussian(folder / "located.zarr")
    parts = []
    for _, covariance in gaussian.fitted.values():
        voxels = np.arange(125).reshape(5, 5, 5)[1:4, 1:4, 1:4].reshape(-1)
        part = covariance[np.ix_(voxels, voxels)]
        parts.append((part[13, 13], 1 / np.linalg.inv(part)[13, 13]))
    variance, remaining = np.array(parts).T
    row = table.iloc[0]
    assert row["share_remaining"] == pytest.approx(remaining.sum() / variance.sum(), rel=1e-4)
    assert row["least_remaining"] == pytest.approx((remaining / variance).min(), rel=1e-4)
    assert row["most_remaining"] == pytest.approx((remaining / variance).max(), rel=1e-4)


def test_errors_say_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "scales.tsv")
    smooth, fitted = folder / "smooth.zarr", folder / "everywhere.zarr"
    text = error_of(capsys, "--data", smooth, "--k", 3, 10, *out)
    assert "k = 10 with a margin of 2 needs surroundings of side l = 14" in text
    assert "14 x 13 x 12 voxels: choose k up to 8" in text
    text = error_of(capsys, "--data", smooth, "--margin", 6, *out)
    assert "l = 13, but" in text and "choose a smaller margin" in text
    text = error_of(capsys, "--gaussian", fitted, "--k", 5, *out)
    assert "everywhere.zarr was fitted for l = 5: choose k up to 1" in text
    text = error_of(capsys, "--data", folder / "none.zarr", *out)
    assert "none.zarr has no training items" in text
    text = error_of(capsys, "--gaussian", fitted, "--patches", 50, "--shrinkage", 0.5, *out)
    assert "is fitted already; remove patches, shrinkage, or fit one on a data store" in text
    text = error_of(capsys, "--gaussian", tmp_path / "no.zarr", *out)
    assert "no.zarr" in text
    text = error_of(capsys, "--data", smooth, "--out", tmp_path / "scales.png")
    assert "name the table (.tsv)" in text
    grid = '{"gaussian": {"grid": [2, 2, 2]}}'
    assert "give its store by --gaussian" in error_of(
        capsys, "--data", smooth, "--settings", grid, *out
    )
    assert "one of the arguments --data --gaussian is required" in error_of(capsys, *out)
