"""Settings on the command line: readable options for people, one JSON argument for rules."""

import argparse
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.classifiers.logistic import LogisticClassifier
from preddiff.datasets.volumes import Columns
from preddiff.errors import InputError
from preddiff.figures.base import FIGURES
from preddiff.methods.base import METHODS
from preddiff.methods.prediction_difference import ExpectationSettings
from preddiff.settings.base import Settings
from preddiff.settings.options import (
    add_settings,
    read_kind,
    read_settings,
    whole_number,
    write_settings,
)

# Anything that a YAML file can hold.
texts = st.text(min_size=1).filter(lambda text: text.strip())


def parsed(model: Any, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_settings(parser, model)
    return parser.parse_args(list(words))


def by_json(value: Settings) -> Settings:
    arguments = parsed(type(value), "--settings", write_settings(value))
    return read_settings(arguments, type(value))


@given(texts, texts, st.booleans(), st.one_of(st.none(), texts))
def test_rules_hand_over_every_text_as_it_is(
    subject: str, group: str, balance: bool, truth: str | None
) -> None:
    value = Columns(
        subject=subject, group=group, balance=balance, truth=truth, classes=("a b", "c';d")
    )
    assert by_json(value) == value


@given(
    st.one_of(
        st.none(),
        st.integers(1, 2**31 - 1),
        st.lists(texts.filter(lambda text: not text.startswith("-")), min_size=1),
    )
)
@pytest.mark.parametrize("name", ["1002", "001", "1e3", "nan"])
def test_rules_hand_over_items_as_names_or_as_a_number(name: str, items: Any) -> None:
    for chosen in (items, [name]):
        windows = {"items": chosen, "k": 3}
        value = ExpectationSettings.model_validate(
            {"sampler": {"kind": "grey", "value": -1e-05}, "windows": windows}
        )
        found = by_json(value)
        assert found == value
        assert found.windows.items == chosen and type(found.windows.items) is type(chosen)


@pytest.mark.parametrize(
    ("words", "items"),
    [
        (["5"], 5),
        (["007"], ["007"]),
        (["sub-1"], ["sub-1"]),
        (["1", "2"], ["1", "2"]),
    ],
)
def test_people_give_names_or_a_number_of_items(words: list[str], items: Any) -> None:
    arguments = parsed(ExpectationSettings, "--kind", "marginal", "--items", *words)
    assert read_settings(arguments, ExpectationSettings).windows.items == items


@pytest.mark.parametrize(("words", "C"), [(["0.5"], 0.5), (["0.1", "10"], [0.1, 10.0])])
def test_people_give_one_penalty_or_several(words: list[str], C: Any) -> None:
    given = ("--kind", "logistic", "--dataset", "cohort", "--C", *words)
    assert read_settings(parsed(LogisticClassifier, *given), LogisticClassifier).C == C


@pytest.mark.parametrize(("words", "file"), [(["gm"], "gm"), (["gm", "wm"], ["gm", "wm"])])
def test_people_give_one_column_or_several(words: list[str], file: Any) -> None:
    arguments = parsed(Columns, "--file", *words, "--standardise", "none")
    assert read_settings(arguments, Columns).file == file


def test_nested_settings_have_their_options_among_the_others() -> None:
    arguments = parsed(
        ExpectationSettings,
        *("--kind", "conditional", "--patches", "30", "--no-clip", "--k", "5", "--stride", "2"),
        *("--samples", "7"),
    )
    found = read_settings(arguments, ExpectationSettings)
    assert found.sampler.model_dump()["patches"] == 30
    assert found.sampler.model_dump()["clip"] is False
    assert (found.windows.k, found.windows.stride, found.windows.samples) == (5, 2, 7)


def test_options_of_another_kind_are_refused() -> None:
    arguments = parsed(ExpectationSettings, "--kind", "marginal", "--value", "0.5")
    with pytest.raises(InputError, match="unknown key 'value'"):
        read_settings(arguments, ExpectationSettings)


def test_kinds_must_exist() -> None:
    with pytest.raises(
        InputError, match="--kind: choose one of conditional, grey, marginal, module"
    ):
        read_settings(parsed(ExpectationSettings, "--kind", "magic"), ExpectationSettings)
    with pytest.raises(InputError, match="--kind: choose one of"):
        read_settings(parsed(ExpectationSettings), ExpectationSettings)


def test_a_kind_of_a_registry_is_read_from_options_and_from_json() -> None:
    names = {"explanations": ["one"]}
    words = ("--kind", "weights", "--slices", "3", "4", "--threshold", "0.2")
    by_options = read_kind(parsed(FIGURES, *words), FIGURES, **names)
    assert by_options.slices == [3, 4] and by_options.threshold == 0.2
    text = json.dumps({"kind": "weights", "slices": [3, 4], "threshold": 0.2, **names})
    assert read_kind(parsed(FIGURES, "--settings", text), FIGURES) == by_options


def test_settings_without_a_kind_are_of_the_default_one() -> None:
    text = json.dumps({"classifier": "c", "sampler": "s", "k": 4})
    found = read_kind(parsed(METHODS, "--settings", text), METHODS)
    assert METHODS.name_of(type(found)) == "prediction-difference"


@pytest.mark.parametrize("text", ["{", "[]", '"a"', "3"])
def test_json_that_holds_no_settings_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_settings(parsed(Columns, "--settings", text), Columns)


@pytest.mark.parametrize("text", ["-1", str(2**70), "1.5", "many"])
def test_whole_numbers_have_bounds(text: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--first", type=whole_number(0))
    with pytest.raises(argparse.ArgumentError, match="integer"):
        parser.parse_args([f"--first={text}"])
