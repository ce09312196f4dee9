"""Settings of Captum's algorithms: what their signatures accept, and when Captum is imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preddiff.errors import InputError
from preddiff.methods.base import METHODS, MethodSettings
from preddiff.settings.base import validate


def method(algorithm: str, **settings: Any) -> MethodSettings:
    given = {"method": "captum", "algorithm": algorithm, "classifier": "c", **settings}
    return validate(METHODS["captum"], given, "study")


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        ("DeepLit", {}, r"Captum \d\S* has no algorithm 'DeepLit' .*it has .*DeepLift, "),
        ("NeuronGradient", {}, "has no algorithm 'NeuronGradient' that makes maps"),
        ("Attribution", {}, "has no algorithm 'Attribution'"),
        ("IntegratedGradients", {"arguments": {"nsteps": 3}}, "'nsteps': did you mean 'n_steps'"),
        ("IntegratedGradients", {"arguments": {"target": 3}}, "'target' cannot be set: the key"),
        ("IntegratedGradients", {"arguments": {"n_steps": "3"}}, "n_steps: give a value like 50"),
        ("IntegratedGradients", {"arguments": {"n_steps": True}}, "n_steps: give a value like 50"),
        ("Saliency", {"arguments": {"abs": 1}}, "abs: give a value like True"),
        ("Saliency", {"arguments": {"baselines": 0}}, "unknown argument 'baselines'"),
        ("DeepLift", {"arguments": {"baselines": "noise"}}, "give a number or zero, mean, blur"),
        ("GradientShap", {"arguments": {"baselines": True}}, "or zero, mean, blur, noise"),
        ("Saliency", {"layer": "conv1"}, "layer: Saliency does not explain by a layer"),
        ("Saliency", {"cell_side": 2}, "cell_side: Saliency does not remove cells"),
        ("SmoothGrad", {"arguments": {"attribution_method": "Nothing"}}, "algorithm 'Nothing'"),
        ("ShapleyValueSampling", {"arguments": {"feature_mask": 0}}, "key `cell_side`"),
        ("Saliency", {"arguments": "{'a'}"}, "arguments: not a JSON object"),
    ],
)
def test_settings_that_captum_does_not_take_are_refused(
    algorithm: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        method(algorithm, **settings)


def test_arguments_can_be_json() -> None:
    assert method("IntegratedGradients", arguments='{"n_steps": 3}').arguments == {"n_steps": 3}


ROOT = Path(__file__).parents[3]
STUDY = """
import sys
import warnings
from pathlib import Path
from preddiff.settings.study import load
from preddiff.settings.base import validate
from preddiff.methods.base import METHODS
"""


def run(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", STUDY + text], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_other_studies_do_not_import_captum() -> None:
    text = "load(Path('config/config.yaml')); print('captum' in sys.modules)"
    assert run(text).split() == ["False"]


def test_a_missing_captum_is_named_when_the_study_is_read() -> None:
    text = """
import importlib.abc, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "captum" else find(name, *rest)
given = {"method": "captum", "algorithm": "Saliency", "classifier": "c"}
try:
    validate(METHODS["captum"], given, "study")
except Exception as error:
    print(type(error).__name__, error)
"""
    assert "InputError study: Captum is not installed: run pip install 'preddiff[captum]'" in run(
        text
    )
