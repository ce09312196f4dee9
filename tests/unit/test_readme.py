"""Examples and links of the documents: Python that runs, valid settings, pages that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from preddiff.settings.base import validate
from preddiff.settings.study import Study
from preddiff.targets import check_target

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COHORTS, IMAGES = ((ROOT / f"docs/{name}.md").read_text() for name in ("cohorts", "images"))
DOCUMENTS = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "config/README.md")
] + sorted((ROOT / "docs").glob("*.md"))


def test_example_runs(capsys) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in example.splitlines() if line.strip()]) < 10
    exec(compile(example, "README.md", "exec"), {})
    assert "(16, 16)" in capsys.readouterr().out


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.M)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    lost = []
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_each_page_is_linked_from_the_readme() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)", README))


def test_study_of_the_readme_is_valid() -> None:
    (study,) = yaml_of(README)
    found = validate(Study, study, "README.md")
    assert found.page_items == 10


def yaml_of(text: str) -> list[dict[str, Any]]:
    """The examples in YAML of a document."""
    return [*map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, flags=re.S))]


def examples(text: str, *keys: str) -> list[dict[str, Any]]:
    """The examples in YAML that have these keys, and no others."""
    return [example for example in yaml_of(text) if {*example} == {*keys}]


def section(key: str) -> dict[str, Any]:
    """What the one example on images that has only this key has there."""
    (found,) = examples(IMAGES, key)
    return found[key]


def test_explanations_are_valid() -> None:
    explanations = section("explanations")
    study = {
        "study": "readme",
        "datasets": {"photographs": {"images": "images"}},
        "classifiers": {"squeezenet": {"kind": "torchvision", "name": "squeezenet1_1"}},
        "samplers": {"conditional": {"kind": "conditional"}},
        "explanations": explanations,
    }
    found = validate(Study, study, "README.md")
    one: Any = found.explanations["squeezenet"]
    without: Any = one.model_copy(update={"accuracy": None})
    classifier = found.classifiers["squeezenet"]
    assert one.accuracy_for(classifier) == without.accuracy_for(classifier) == 0.02


def test_classifiers_are_valid() -> None:
    classifiers = section("classifiers")
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


def test_linear_models_are_valid() -> None:
    linear, _ = examples(COHORTS, "datasets", "classifiers")
    study = {
        "study": "readme",
        **linear,
        "samplers": {"marginal": {"kind": "marginal"}},
        "explanations": {
            "one": {"classifier": "svm", "sampler": "marginal", "targets": ["value:patient"]},
            "two": {"classifier": "age", "sampler": "marginal", "targets": ["value:age"]},
        },
    }
    assert validate(Study, study, "README.md").classifiers["age"].has_probabilities is False


def test_networks_of_volumes_are_valid() -> None:
    _, networks = examples(COHORTS, "datasets", "classifiers")
    explanations = {
        name: {"classifier": name, "sampler": "grey", "k": 5} for name in networks["classifiers"]
    }
    study = {
        "study": "readme",
        **networks,
        "samplers": {"grey": {"kind": "grey"}},
        "explanations": explanations,
    }
    found = validate(Study, study, "README.md").classifiers
    assert {name: one.has_probabilities for name, one in found.items()} == {
        "own": True,
        "densenet": True,
        "age": False,
    }


def test_photographs_of_ones_own_are_valid() -> None:
    text = (ROOT / "docs/photographs.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.S)
    explained = {"classifier": "efficientnet", "dataset": "photographs", "sampler": "patches"}
    study = {
        "study": "docs",
        **yaml.safe_load(example),
        "explanations": {"one": {**explained, "k": 10, "l": 14}},
    }
    found = validate(Study, study, "photographs.md")
    assert found.sampled_dataset(found.explanations["one"]) == "patches"


def test_targets_are_valid() -> None:
    targets = re.findall(r"`((?:probability|logit|layer):.*?)`", IMAGES)
    assert len(targets) == 7
    for target in targets:
        check_target(target)
