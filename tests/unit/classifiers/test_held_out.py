"""Models of folds: training items by the one that held them out, others by that of all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from preddiff.classifiers.held_out import held_out, save_folds
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.nuisance import Nuisance
from preddiff.datasets.items import Items
from preddiff.engines.held_out import ByModel
from preddiff.engines.linear import Exact
from preddiff.errors import InputError
from preddiff.methods.sensitivity import Sensitivity
from preddiff.samplers.grey import Grey
from preddiff.stages.map import compute_maps
from preddiff.stages.open_maps import open_maps
from preddiff.storage.inputs import Inputs
from preddiff.targets import Target
from preddiff.windows import Windows
from tests.unit.datasets.stores import write_store

SHAPE = (1, 4, 3, 3)
GENERATOR = np.random.default_rng(1)
X = GENERATOR.normal(size=(6, *SHAPE)).astype(np.float32)
ALL, *FOLDS = (
    LinearClassifier(
        GENERATOR.normal(size=SHAPE),
        0.1 * number,
        ("no", "yes"),
        6,
        (0, 0, 0),
        nuisance=Nuisance(("age",), ("age",), np.array([[0.3 * number]])),
    )
    for number in range(3)
)
# Item 4 was not trained on, and item 9 is of another dataset.
FOLD_OF = {"item-0": 1, "item-1": 0, "item-2": 1, "item-3": 0, "item-5": 0, "item-9": 1}
MODELS = [FOLDS[1], FOLDS[0], FOLDS[1], FOLDS[0], ALL, FOLDS[0]]


@pytest.fixture
def items(tmp_path: Path) -> Items:
    ages = np.arange(6.0)[:, None] - 3
    return write_store(tmp_path / "d.zarr", X[:, 0], affine=np.eye(4), nuisance=(["age"], ages))


@pytest.fixture
def by_fold(items: Items, tmp_path: Path) -> LinearClassifier:
    save_folds(tmp_path, FOLDS, FOLD_OF)
    return held_out(ALL.for_items(items), tmp_path, items)


def test_outputs_are_those_of_the_models_that_have_not_seen_an_item(
    by_fold: LinearClassifier, items: Items
) -> None:
    order = [5, 0, 4, 1, 3, 2]
    names = [items.names[n] for n in order]
    found = by_fold.outputs(X[order], names)
    for row, number in enumerate(order):
        model = MODELS[number].for_items(items)
        one = X[number : number + 1]
        assert found[row] == pytest.approx(model.outputs(one, [items.names[number]])[0])


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_expectations_are_those_of_the_models_that_have_not_seen_an_item(
    by_fold: LinearClassifier, items: Items, batch: int, monkeypatch
) -> None:
    monkeypatch.setattr(Exact, "batch", batch)
    windows, targets = Windows(SHAPE[1:], 2), [Target("probability", "yes"), Target("logit", "no")]

    def engine(model: LinearClassifier) -> Exact:
        return Exact(model, Grey(0.2), windows, targets)

    done: list[float] = []
    block = windows.everything
    found = ByModel(by_fold, engine).expectations(X, items.names, block, done.append)
    assert sum(done) == 6 * block.size
    for number, model in enumerate(MODELS):
        one, name = X[number : number + 1], [items.names[number]]
        expected = engine(model.for_items(items)).expectations(one, name, block)
        for array in ("reference", "change", "variance"):
            wanted = getattr(expected, array)[0]
            assert getattr(found, array)[number] == pytest.approx(wanted, abs=1e-12)


def test_gradients_are_weights_of_the_models_that_have_not_seen_an_item(
    items: Items, tmp_path: Path
) -> None:
    ALL.save(tmp_path / "model")
    save_folds(tmp_path / "model", FOLDS, FOLD_OF)
    method = Sensitivity(
        method="sensitivity", classifier="model", targets=["logit:yes"], held_out=True, device="cpu"
    )
    store = tmp_path / "maps.zarr"
    open_maps(Inputs(items.path, tmp_path / "model"), method, 0, store)
    compute_maps(store)
    found = xr.open_zarr(store)
    for number, model in enumerate(MODELS):
        weights = np.abs(model.weights[0])
        assert found["relevance"].values[number, 0] == pytest.approx(weights, rel=1e-6)
        logit = (model.weights * X[number]).sum() + model.intercept
        logit += model.nuisance.coefficients[0, 0] * (number - 3)
        assert found["prediction"].values[number, 0] == pytest.approx(logit, rel=1e-5)


def test_facts_of_an_item_tell_its_model_and_its_nuisance_variables(
    by_fold: LinearClassifier, items: Items
) -> None:
    facts = {name: by_fold.facts_of(name) for name in items.names}
    assert facts["item-4"] == ALL.for_items(items).facts_of("item-4")
    assert facts["item-0"] == [FOLDS[1].digest, pytest.approx(-3 * 0.6)]
    other = replace(by_fold, models={"item-0": FOLDS[0].for_items(items)})
    assert other.facts_of("item-0") != facts["item-0"]


@pytest.mark.parametrize("text", [None, "{", "[1]", json.dumps({"item-0": "one"})])
def test_missing_or_damaged_folds_are_refused(
    text: str | None, items: Items, tmp_path: Path
) -> None:
    if text is not None:
        save_folds(tmp_path, FOLDS, FOLD_OF)
        (tmp_path / "folds/items.json").write_text(text)
    with pytest.raises(InputError, match=r"train .* again"):
        held_out(ALL.for_items(items), tmp_path, items)
