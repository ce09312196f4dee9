"""The figure of feature inversion, from real stores of the digits."""

from pathlib import Path

import numpy as np
import pytest

from preddiff.cli import main
from preddiff.errors import InputError
from preddiff.figures.feature_inversion import FeatureInversionFigure, rows_of
from preddiff.figures.image_maps import ImageMaps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digits")

    def run(*arguments: object) -> None:
        main([str(argument) for argument in arguments])

    data = ("--data", made / "digits.zarr")
    run("prepare-digits", "--out", made / "digits.zarr")
    run("train-digits", *data, "--epochs", 1, "--out", made / "network")
    given = (
        *data,
        "--classifier",
        made / "network",
        "--items",
        2,
        "--targets",
        "logit:3",
        "logit:8",
    )
    for name, method in (
        ("masks", ("feature-inversion", "--steps", 1, 2, "--layer", "relu4")),
        ("gradients", ("sensitivity",)),
    ):
        run("open-maps", *given, "--method", *method, "--out", made / f"{name}.zarr")
        run("map", made / f"{name}.zarr")
    return made


def test_both_stages_are_shown(folder: Path) -> None:
    maps = ImageMaps(folder / "masks.zarr")
    figure = FeatureInversionFigure(kind="feature-inversion", explanations=["masks"])
    rows = rows_of(maps, maps.items, figure)
    assert len(rows) == 2
    for number, row in enumerate(rows):
        image, first, *second = row.panels
        assert image.values is None and len(second) == 2
        assert first.title.startswith("stage 1")
        assert np.array_equal(first.values, maps.dataset["first_stage"][number].values)
        for target, panel in enumerate(second):
            assert np.array_equal(panel.values, maps.dataset["relevance"][number, target].values)
            assert panel.title.startswith(f"stage 2: {(3, 8)[target]}\n")
            assert f"alone {float(maps.dataset['kept'][number, target]):.2g}," in panel.note
    one = FeatureInversionFigure(
        kind="feature-inversion", explanations=["masks"], targets=["logit:8"], items=1
    )
    ((*_, panel),) = (row.panels for row in rows_of(maps, maps.items[:1], one))
    assert panel.title.startswith("stage 2: 8")
    assert len(one.draw([maps]).axes) == 4  # three panels and a scale


def test_other_stores_are_refused(folder: Path) -> None:
    figure = FeatureInversionFigure(kind="feature-inversion", explanations=["gradients"])
    with pytest.raises(InputError, match="'gradients' has no masks of a first stage"):
        figure.draw([ImageMaps(folder / "gradients.zarr")])
