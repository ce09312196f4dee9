"""A user's method: what the function is given, and what may come back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preddiff.classifiers.linear import LinearClassifier
from preddiff.errors import InputError
from preddiff.methods.base import METHODS
from preddiff.methods.sensitivity import Sensitivity
from preddiff.targets import Target

WEIGHTS = np.arange(8.0).reshape(1, 2, 2, 2) - 3
CLASSIFIER = LinearClassifier(WEIGHTS, 0.5, ("control", "patient"), 9, (0, 0, 0))
TARGETS = [Target("logit", "patient"), Target("logit", "control")]
X = torch.linspace(-1, 1, 8).reshape(1, 2, 2, 2)


def method(folder: Path, text: str) -> object:
    (folder / "own.py").write_text(text)
    settings = {"method": "module", "module": f"{folder}/own.py:own", "classifier": "c"}
    return METHODS["module"].model_validate(settings)


def maps(folder: Path, text: str):
    nodes = CLASSIFIER.nodes(TARGETS, {})
    return method(folder, text).maps(nodes, X, "item", TARGETS, 0)


def test_the_function_is_asked_for_each_target(tmp_path: Path) -> None:
    text = (
        "import torch\ndef own(value, x):\n    x.requires_grad_()\n"
        "    return torch.autograd.grad(value(x[None]).sum(), x)[0][0]\n"
    )
    found = maps(tmp_path, text)
    assert np.allclose(found.relevance[0], WEIGHTS[0])
    assert np.allclose(found.relevance[1], -WEIGHTS[0])
    assert found.values.tolist() == pytest.approx(
        [s * CLASSIFIER.logit(X.numpy()[None])[0] for s in (1, -1)]
    )
    assert not found.stderr.any()


def test_a_function_may_tell_its_error_and_change_its_input(tmp_path: Path) -> None:
    text = "def own(value, x):\n    x *= 0\n    return x[0].numpy(), x[0] + 2\n"
    found = maps(tmp_path, text)
    assert not found.relevance.any() and (found.stderr == 2).all()
    assert X.any()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return x", r"one value per voxel, shape \(2, 2, 2\)"),
        ("return x[0], x[0], x[0]", "a map, or a map and its error"),
        ("raise KeyError('a')", r"own\.py:own: KeyError"),
    ],
)
def test_other_results_are_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        maps(tmp_path, f"def own(value, x):\n    {body}\n")


def test_provenance_holds_the_function_and_its_file(tmp_path: Path) -> None:
    one = method(tmp_path, "def own(value, x): return x[0]\n")
    before = one.provenance()
    assert before["function"] == "own"
    other = method(tmp_path, "def own(value, x): return 2 * x[0]\n")
    assert other.provenance()["files"] != before["files"]


def test_sensitivity_of_a_linear_classifier_is_the_magnitude_of_its_weights() -> None:
    sensitivity = Sensitivity(method="sensitivity", classifier="c")
    found = sensitivity.maps(CLASSIFIER.nodes(TARGETS, {}), X, "item", TARGETS, 0)
    for relevance in found.relevance:
        assert np.allclose(relevance, np.abs(WEIGHTS[0]))
