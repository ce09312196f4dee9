"""Predictions of networks: which output is compared with the true values."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from preddiff.classifiers import module
from preddiff.classifiers.standardisation import Standardisation
from preddiff.classifiers.stored import store_network
from preddiff.stages.predict import predict
from preddiff.user_code import digest_of
from tests.unit.datasets.stores import write_store

SPACE = (4, 3, 2)
OWN = """
from torch import nn


def sex_and_age():
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 2))
"""


def test_the_value_of_the_same_name_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    x = np.random.default_rng(0).normal(size=(6, *SPACE)).astype(np.float32)
    ages = np.linspace(20, 70, 6)
    for column in ("age", "years"):
        write_store(tmp_path / f"{column}.zarr", x, affine=np.eye(4), value=(column, ages))
    torch.manual_seed(0)
    network = module.build(f"{file}:sex_and_age")
    assert isinstance(network, nn.Sequential)
    weight, bias = (p.detach().double().numpy() for p in network[1].parameters())
    expected = x.reshape(6, -1).astype(np.float64) @ weight.T + bias
    reference = f"{file}:sex_and_age"
    about = {"module": str(file), "factory": "sex_and_age", "digest": digest_of(reference)}
    standardisation = Standardisation((0.0,), (1.0,), 3)
    for names in (("sex", "age"), ("age", "sex")):
        out = tmp_path / names[0]
        store_network(
            network,
            about,
            names,
            6,
            SPACE,
            standardisation,
            out,
            (0, 0, 0),
            has_probabilities=False,
        )
        own = expected[:, names.index("age")]
        predict(tmp_path / "age.zarr", out, "cpu", 1, tmp_path / "table.tsv")
        table = pd.read_csv(tmp_path / "table.tsv", sep="\t")
        assert np.allclose(table["predicted"], own, atol=1e-6)
        assert np.allclose(table["error"], own - ages, atol=1e-5)
        # Numbers of another name are not compared: the value that is explained is listed.
        predict(tmp_path / "years.zarr", out, "cpu", 1, tmp_path / "table.tsv")
        table = pd.read_csv(tmp_path / "table.tsv", sep="\t")
        assert np.allclose(table["predicted"], expected[:, 1], atol=1e-6)
        assert table["error"].isna().all()
        assert json.loads((tmp_path / "table.json").read_text())["items_of_known_value"] == 0
