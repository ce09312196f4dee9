"""Concept sheets: order, colours, classes, and overlays."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from matplotlib import colormaps

from preddiff.classifiers.stored import unit_of
from preddiff.errors import InputError
from preddiff.figures.concepts import ConceptSheet, features_of
from preddiff.figures.image_maps import ImageMaps
from preddiff.figures.panels import blend
from preddiff.storage.inputs import Inputs
from preddiff.storage.relevance import create_relevance
from preddiff.storage.stores import array
from tests.unit.datasets.stores import write_store

ITEMS = [f"item-{number}" for number in range(4)]
# Contributions of two x-features to the classes 7 and 1, class-major; x-feature 1 has none.
VALUES = np.array([[3.0, 0, -1, 0], [1, 0, -2, 0], [-9, 0, 5, 0], [0, 0, 7, 0]])
TARGETS = [f"map:xnn.contributions:{number}" for number in range(4)]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    about = {"network": {"digits": 4}, "layer": "relu5", "axes": 0, "sizes": [6, 2]}
    architecture = {"explanation-network": {**about, "classes": [7, 1]}}
    (tmp_path / "xnn").mkdir()
    (tmp_path / "xnn/classifier.json").write_text(json.dumps({"architecture": architecture}))
    return tmp_path / "xnn"


def stored(classifier: Path, targets: list[str] = TARGETS, **about: object) -> ImageMaps:
    """Maps of four images, the first two of which are taken for a 7, the others for a 1."""
    folder = classifier.parent
    if not (folder / "data.zarr").exists():
        write_store(folder / "data.zarr", np.full((4, 1, 5, 5), 0.5, dtype=np.float32))
    predictions = folder / "predictions.tsv"
    rows = [f"{item}\t-1\t\t{top}\n" for item, top in zip(ITEMS, (7, 7, 1, 1), strict=True)]
    predictions.write_text("".join(["item\tclass\tname\ttop1\n", *rows]))
    inputs = Inputs(folder / "data.zarr", classifier, predictions=predictions)
    path = folder / "concepts.zarr"
    classes = np.full((4, len(targets)), -1, dtype=np.int64)
    space = {"corner": [0, 0], "space": [5, 5], "k": 1, "inputs": inputs.relative_to(path)}
    names = {"classes": [f"digit {n}" for n in range(10)], "shows_evidence": False}
    values = VALUES[:, : len(targets)].astype(np.float32)
    create_relevance(path, ITEMS, targets, classes, values, {}, {**space, **names, **about})
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    array(group, "relevance")[:] = np.random.default_rng(0).random((4, len(targets), 5, 5))
    return ImageMaps(path)


@pytest.fixture
def maps(classifier: Path) -> ImageMaps:
    return stored(classifier)


def sheet(**others: object) -> ConceptSheet:
    return ConceptSheet(kind="concepts", explanations=["concepts"], **others)


def test_units_of_an_explanation_network_have_names(classifier: Path) -> None:
    found = [unit_of(classifier, "xnn.contributions", number) for number in range(4)]
    assert [unit.name for unit in found] == ["x-feature 0", "x-feature 1"] * 2
    assert [unit.class_number for unit in found] == [7, 7, 1, 1]
    feature = unit_of(classifier, "xnn.features", 1)
    assert feature.name == "x-feature 1" and feature.class_number is None
    assert unit_of(classifier, "relu5", 1) is None
    (classifier / "classifier.json").write_text('{"kind": "linear"}')
    assert unit_of(classifier, "relu5", 1) is None


def test_x_features_are_in_the_order_of_their_mean_contributions(
    maps: ImageMaps,
) -> None:
    found = features_of(maps, sheet())
    assert [feature.target for feature in found] == [2, 0]
    assert [feature.mean for feature in found] == [6, 2]
    assert [feature.items for feature in found] == [ITEMS[2:], ITEMS[:2]]


def test_without_predictions_all_items_count(maps: ImageMaps) -> None:
    maps.predictions = None
    found = features_of(maps, sheet())
    assert [(feature.target, feature.mean) for feature in found] == [(2, 2.25), (0, -1.25)]
    assert features_of(maps, sheet(items=["item-2"]))[1].values.tolist() == [-9]


def test_largest_contributions_come_first_in_red_and_blue(maps: ImageMaps) -> None:
    maps.predictions = None
    figure = sheet(columns=3, targets=["map:xnn.contributions:0"]).draw([maps])
    titles = [axes.title for axes in figure.axes[3:6]]
    assert [title.get_text() for title in titles] == ["-9", "+3", "+1"]
    assert [title.get_color() for title in titles] == ["royalblue", "firebrick", "firebrick"]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["item-2", "item-0", "item-1"]
    assert figure.axes[0].get_ylabel() == "x-feature 0\nfor digit 7"
    assert figure.axes[3].get_ylabel() == "mean -1.25\nover 4 images"


def test_items_without_a_contribution_are_left_out(maps: ImageMaps) -> None:
    figure = sheet(columns=6).draw([maps])
    # Images and maps of two x-features with two items each; and a colour bar.
    assert sum(bool(axes.images) for axes in figure.axes[:-1]) == 8


@pytest.mark.parametrize("shows_evidence", [True, False])
def test_evidence_is_drawn_in_its_own_colours(classifier: Path, shows_evidence: bool) -> None:
    figure = sheet().draw([stored(classifier, shows_evidence=shows_evidence)])
    label = "for" if shows_evidence else ""
    assert figure.axes[-1].get_title() == label


def test_what_cannot_be_shown_is_refused(maps: ImageMaps, classifier: Path) -> None:
    with pytest.raises(InputError, match=r"no item 'z'"):
        features_of(maps, sheet(items=["z"]))
    with pytest.raises(InputError, match="nothing contributes"):
        features_of(maps, sheet(targets=["map:xnn.contributions:1"]))
    with pytest.raises(InputError, match=r"no target 'map:xnn\.contributions:9'"):
        features_of(maps, sheet(targets=["map:xnn.contributions:9"]))
    shutil.rmtree(classifier.parent / "concepts.zarr")
    with pytest.raises(InputError, match=r"shows units of a layer, such as layer:xnn"):
        features_of(stored(classifier, ["probability:top-1"]), sheet())


def test_the_overlay_is_that_of_the_paper() -> None:
    image = np.full((1, 1, 3), 0.4)
    found = blend(image, np.array([[0.0, 1.0, 2.0]]))
    assert found[0, 0].tolist() == pytest.approx([0.4] * 3)
    assert found[0, 2].tolist() == pytest.approx(list(colormaps["jet"](1.0)[:3]))
    opacity = 0.5**0.8
    half = [(1 - opacity) * 0.4 + opacity * c for c in colormaps["jet"](0.5)[:3]]
    assert found[0, 1].tolist() == pytest.approx(half)
    assert blend(image, np.zeros((1, 3))).ravel().tolist() == pytest.approx([0.4] * 9)
