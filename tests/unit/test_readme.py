"""The README's examples: Python that runs as it stands, and settings and targets that are valid."""

import re
from pathlib import Path

import yaml

from preddiff.settings.base import validate
from preddiff.settings.study import Study
from preddiff.targets import check_target

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_example_runs(capsys) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in example.splitlines() if line.strip()]) < 10
    exec(compile(example, "README.md", "exec"), {})
    assert "(16, 16)" in capsys.readouterr().out


def test_classifiers_are_valid() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.S)
    classifiers = yaml.safe_load(example)["classifiers"]
    rest = {
        "study": "readme",
        "datasets": {"images": {"images": "images"}},
        "samplers": {"grey": {"kind": "grey"}},
        "explanations": {
            name: {"classifier": name, "dataset": "images", "sampler": "grey", "k": 10}
            for name in classifiers
        },
    }
    study = validate(Study, {**rest, "classifiers": classifiers}, "README.md")
    assert [one.kind for one in study.classifiers.values()] == ["torchvision", "module"]


def test_targets_are_valid() -> None:
    targets = re.findall(r"`((?:probability|logit|layer):.*?)`", README)
    assert len(targets) == 7
    for target in targets:
        check_target(target)
