"""Linear models of a cohort that are not logistic regressions, through Snakemake."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from preddiff.classifiers.linear import LinearClassifier
from preddiff.datasets.items import Items
from tests.study.cohort import small_study, write_cohort, write_config
from tests.study.commands import snakemake


def test_linear_models_are_trained_and_explained_together(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "cohort")
    people = pd.read_csv(table, sep="\t", keep_default_na=False)
    people["age"] = 50 + np.arange(len(people)) + 5 * (people["group"] == "patient")
    people["sex"] = ["f", "m"] * (len(people) // 2)
    people.to_csv(table, sep="\t", index=False)
    settings = small_study(table, "linear")
    settings["datasets"]["cohort"] |= {"value": "age", "nuisance": ["sex"]}
    common = {"dataset": "cohort", "slices": [4, 9], "folds": 3}
    settings["classifiers"] = {
        "svm": {**common, "kind": "svm", "regress_out": ["sex"]},
        "age": {**common, "kind": "regression", "alpha": [1, 100], "inner_folds": 2},
    }
    windows = {"sampler": "marginal", "k": 2, "items": 4}
    settings["explanations"] = {
        "decision": {**windows, "classifier": "svm"},
        "held-out": {**windows, "classifier": "svm", "held_out": True},
        "drawn": {**windows, "classifier": "svm", "estimator": "samples", "samples": 500},
        "gradient": {"classifier": "age", "method": "sensitivity", "items": 1},
    }
    settings["figures"] = {"weights": {"kind": "weights", "explanations": ["held-out"]}}
    done = snakemake(tmp_path, write_config(tmp_path / "config.yaml", settings))
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results/linear"
    scores = json.loads((results / "classifiers/age/cv.json").read_text())
    assert scores["value"] == "age" and scores["mean_absolute_error"] > 0
    # The reference contains what the nuisance variables of an item add.
    items = Items(results / "data/cohort.zarr")
    svm = LinearClassifier.load(results / "classifiers/svm").for_items(items)
    exact, drawn = (
        xr.open_zarr(results / f"expectations/{name}.zarr") for name in ("decision", "drawn")
    )
    assert list(exact["target"].values) == ["value:patient"]
    outputs = svm.outputs(items.read(range(4), svm.slab), items.names[:4])
    assert np.allclose(exact["reference"][:, 0], outputs[:, 0], rtol=1e-5)
    error = np.sqrt(exact["variance"].values / 500) + 1e-6
    assert (np.abs(drawn["change"] - exact["change"]).values < 6 * error).all()
    # Held-out items have the decision values of the cross-validation.
    table = pd.read_csv(results / "classifiers/svm/cv.tsv", sep="\t").set_index("item")
    by_fold = xr.open_zarr(results / "relevance/held-out.zarr")
    expected = table.loc[[str(name) for name in by_fold["item"].values], "value"]
    assert np.allclose(by_fold["prediction"][:, 0], expected, rtol=1e-4)
    weights = LinearClassifier.load(results / "classifiers/age").weights[0]
    gradient = xr.open_zarr(results / "relevance/gradient.zarr")
    assert list(gradient["target"].values) == ["value:age"]
    assert np.allclose(gradient["relevance"][0, 0], np.abs(weights), rtol=1e-5)
