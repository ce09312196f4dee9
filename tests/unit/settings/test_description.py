"""What a study asks for, in sentences."""

from pathlib import Path

from preddiff.settings.base import read_yaml, validate
from preddiff.settings.description import describe
from preddiff.settings.study import Study

CONFIG = Path(__file__).parents[3] / "config"


def test_each_explanation_is_described() -> None:
    study = validate(Study, read_yaml(CONFIG / "config.yaml"), "config.yaml")
    sentences = describe(study)
    assert [text.partition(":")[0] for text in sentences] == list(study.explanations)
    assert (
        "conditional: logistic on volumes of cohort, by prediction difference analysis "
        "(conditional sampler, windows of side 3)." in sentences
    )
    assert (
        "network-k5: volume-network on 6 volumes of cohort, by prediction difference analysis "
        "(conditional sampler, windows of side 5, accuracy 0.05)." in sentences
    )


def test_other_methods_have_no_windows() -> None:
    study = validate(Study, read_yaml(CONFIG / "digits.yaml"), "digits.yaml")
    digits = next(text for text in describe(study) if text.startswith("digits-sensitivity"))
    assert digits == "digits-sensitivity: network on 40 images of digits, by sensitivity."
