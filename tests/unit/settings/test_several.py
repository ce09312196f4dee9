"""Lists of window sides: one entry stands for several explanations, and figures show them all."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from preddiff.errors import InputError
from preddiff.settings import document
from preddiff.settings.base import validate
from preddiff.settings.several import with_several
from preddiff.settings.study import Study
from preddiff.workflow import Plan

ROOT = Path(__file__).parents[3]
ENTRY = {"classifier": "logistic", "sampler": "conditional", "k": [3, 5, 10], "l": [7, 9, 14]}


@pytest.fixture
def settings() -> dict[str, Any]:
    """The default study, with a list of sides and figures that show it."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    found["explanations"]["sizes"] = ENTRY
    found["figures"] = {
        "all": {"kind": "patch-sizes", "explanations": ["k2", "sizes", "marginal"]},
        "one": {"kind": "slices", "explanations": ["sizes-k5"]},
    }
    return found


def test_a_list_makes_an_explanation_of_each_side(settings: dict[str, Any]) -> None:
    before = copy.deepcopy(settings)
    study = validate(Study, settings, "test")
    assert settings == before
    names = list(study.explanations)
    assert names[-3:] == ["sizes-k3", "sizes-k5", "sizes-k10"]
    assert "sizes" not in names
    found: list[Any] = [study.explanations[name] for name in names[-3:]]
    assert [(one.k, one.l, one.sampler) for one in found] == [
        (3, 7, "conditional"), (5, 9, "conditional"), (10, 14, "conditional"),
    ]  # fmt: skip
    assert found[0] == study.explanations["conditional"].model_copy(update={"nifti": False})


def test_figures_show_all_explanations_of_an_entry_in_order(settings: dict[str, Any]) -> None:
    figures = validate(Study, settings, "test").figures
    assert figures["all"].explanations == ["k2", "sizes-k3", "sizes-k5", "sizes-k10", "marginal"]
    assert figures["one"].explanations == ["sizes-k5"]


def test_the_same_windows_have_the_same_stores_and_settings(settings: dict[str, Any]) -> None:
    plan = Plan(validate(Study, settings, "test"))
    assert (
        plan.gaussian_of("sizes-k3") == plan.gaussian_of("conditional") == "cohort-l7-conditional"
    )
    assert plan.expectation_settings("sizes-k3") == plan.expectation_settings("conditional")
    assert plan.filled_store_of("sizes-k10") == "results/phantom/expectations/sizes-k10.zarr"


def test_a_list_of_one_is_an_explanation_of_one(settings: dict[str, Any]) -> None:
    settings["explanations"]["sizes"] = {**ENTRY, "k": [5], "l": 7}
    settings["figures"].pop("all")
    assert "sizes-k5" in validate(Study, settings, "test").explanations


def test_other_samplers_and_one_side_of_surroundings_need_no_list(settings: dict[str, Any]) -> None:
    entries = {
        "fits": {**ENTRY, "k": [3, 5, 7], "l": 11},
        "grey": {"classifier": "logistic", "sampler": "grey", "k": [3, 10]},
    }
    settings["explanations"] |= entries
    found: dict[str, Any] = validate(Study, settings, "test").explanations
    assert [found[f"fits-k{k}"].l for k in (3, 5, 7)] == [11, 11, 11]
    assert [found[f"grey-k{k}"].k for k in (3, 10)] == [3, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": []}, r"explanations\.sizes\.k: give one or several sides of windows"),
        ({"k": [3, 2.5]}, r"explanations\.sizes\.k: give one or several sides of windows"),
        ({"k": [3, "5"]}, r"explanations\.sizes\.k: give one or several sides of windows"),
        ({"k": [True, 5]}, r"explanations\.sizes\.k: give one or several sides of windows"),
        ({"k": [0, 5]}, r"explanations\.sizes\.k: give one or several sides of windows"),
        ({"k": [3, 5, 3]}, r"explanations\.sizes\.k: 3 is listed twice"),
        (
            {"k": [3, 5]},
            r"explanations\.sizes\.l: give one side for each of k = \[3, 5\], such as \[7, 9\]",
        ),
        ({"k": 3}, r"explanations\.sizes\.l: a list needs a list of k of the same length"),
        ({"l": 7}, r"explanations\.sizes-k10\.l: l = 7 is smaller than k = 10"),
        ({"l": 12}, r"explanations\.sizes-k3\.l: l - k = 9 is odd"),
        ({"l": None}, r"explanations\.sizes-k3\.l: this key is required, because sampler"),
        ({"l": [7, 9, "x"]}, r"explanations\.sizes-k10\.l: Input should be a valid integer"),
        ({"sampels": 3}, r"explanations\.sizes-k3: unknown key 'sampels': did you mean 'samples'"),
        ({"sampler": ["x"]}, r"explanations\.sizes-k3\.sampler"),
        ({"method": "rise"}, r"explanations\.sizes: unknown key 'sampler'"),
        ({"method": "magic"}, r"unknown kind 'magic'"),
    ],
)
def test_bad_lists_are_refused(
    settings: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    settings["explanations"]["sizes"] = {**ENTRY, **change}
    settings["figures"] = {}
    with pytest.raises(InputError, match=message):
        validate(Study, settings, "test")


def test_surroundings_of_a_list_must_be_given(settings: dict[str, Any]) -> None:
    settings["explanations"]["sizes"] = {key: ENTRY[key] for key in ENTRY if key != "l"}
    with pytest.raises(InputError, match=r"sizes\.l: give the sides .* such as \[7, 9, 14\]"):
        validate(Study, settings, "test")


@pytest.mark.parametrize("other", ["sizes-k5", "sizes-k10"])
@pytest.mark.parametrize("comes_first", [True, False])
def test_names_that_are_taken_are_refused(
    settings: dict[str, Any], other: str, comes_first: bool
) -> None:
    taken = {other: {"classifier": "logistic", "sampler": "grey"}}
    entries = settings["explanations"]
    settings["explanations"] = taken | entries if comes_first else entries | taken
    with pytest.raises(InputError, match=rf"explanations\.sizes\.k: .* '{other}', but there is"):
        validate(Study, settings, "test")


def test_names_that_two_lists_make_are_refused(settings: dict[str, Any]) -> None:
    settings["explanations"] = {"a": {**ENTRY}, "a-k3": {**ENTRY, "k": [1], "l": 5}, "a-k3-k1": {}}
    with pytest.raises(InputError, match=r"explanations\.a\.k: the list makes .* 'a-k3', but"):
        validate(Study, settings, "test")


def test_names_that_are_too_long_are_refused(settings: dict[str, Any]) -> None:
    name = "x" * 61
    settings["explanations"][name] = ENTRY
    with pytest.raises(InputError, match=f"'{name}-k10', whose name is longer than 64 characters"):
        validate(Study, settings, "test")


def test_figures_of_one_explanation_refuse_a_list(settings: dict[str, Any]) -> None:
    settings["figures"] = {"all": {"kind": "slices", "explanations": ["sizes"]}}
    with pytest.raises(InputError, match=r"figures\.all\.explanations: .* shows one explanation"):
        validate(Study, settings, "test")


@pytest.mark.parametrize("text", [[], 3, {"explanations": [1]}, {"explanations": {"a": 3}}])
def test_what_is_no_configuration_is_left_to_validation(text: Any) -> None:
    if isinstance(text, dict):
        assert with_several(text) == text
    with pytest.raises(InputError):
        validate(Study, text, "test")


def test_editors_accept_lists(settings: dict[str, Any]) -> None:
    schema = json.loads(document.schema())
    jsonschema.validate(settings, schema)
    for value in ([], [0], ["3"]):
        settings["explanations"]["sizes"] = {**ENTRY, "k": value}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(settings, schema)
