"""Foretold: explanations whose maps would show next to nothing, in a table and in warnings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from preddiff.cli import main
from preddiff.datasets.slab import Slab
from preddiff.samplers.gaussian_store import GaussianSettings, fit_gaussian
from preddiff.stages.open import warn_of_scale
from preddiff.storage.inputs import Inputs
from tests.unit.datasets.stores import write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gaussian of smooth images, with surroundings of side 5."""
    folder = tmp_path_factory.mktemp("foretold")
    noise = np.random.default_rng(5).normal(size=(4, 1, 40, 40)).astype(np.float32)
    images = ndimage.gaussian_filter(noise, (0, 0, 2, 2), mode="wrap")
    write_store(folder / "images.zarr", images)
    settings = GaussianSettings(patches=4000)
    fit_gaussian(folder / "images.zarr", settings, 5, Slab(), 0, 1, folder / "gaussian.zarr")
    return folder / "gaussian.zarr"


def test_explanations_have_a_row_each_and_a_warning(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "foretold.tsv"
    named = [("--explanation", name, k, store) for name, k in (("one", 1), ("all", 5))]
    main(["foretold", *map(str, (*named[0], *named[1], "--out", out))])
    table = pd.read_csv(out, sep="\t", keep_default_na=False).set_index("explanation")
    assert list(table["k"]) == [1, 5]
    assert list(table["l"]) == [5, 5]
    assert "Choose a larger k" in table.loc["one", "warning"]
    assert table.loc["all", "warning"] == ""
    assert table.loc["all", "share_foretold"] == 0
    warnings = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: explanation 'one': the surroundings foretell 99.")


def test_opening_warns_where_windows_are_foretold(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = Inputs(store, store, store)
    warn_of_scale(inputs, 1)
    assert "warning: the surroundings foretell 99." in capsys.readouterr().err
    warn_of_scale(inputs, 5)
    warn_of_scale(Inputs(store, store), 1)
    assert capsys.readouterr().err == ""


def test_a_side_that_is_no_number_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["foretold", "--explanation", "a", "three", str(store), "--out", str(tmp_path / "t")])
    assert "--explanation a three: K is the side" in capsys.readouterr().err
