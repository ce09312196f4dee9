"""A study's configuration: what is valid, what is refused, and by which message."""

import copy
from pathlib import Path
from typing import Any

import pytest

from preddiff.errors import InputError
from preddiff.settings.base import validate
from preddiff.settings.study import Study, load
from tests.unit.configurations import every_kind

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["config.yaml", "digits.yaml", "mri.yaml", "oasis.yaml"])
def test_configurations_that_come_with_the_project_are_valid(name: str) -> None:
    load(ROOT / "config" / name)


@pytest.mark.parametrize("text", ["study: [", "", "- a"])
def test_files_that_hold_no_configuration_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml"):
        load(path)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file"):
        load(tmp_path / "none.yaml")


@pytest.fixture
def settings() -> dict[str, Any]:
    return every_kind()


def changed(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    found = copy.deepcopy(settings)
    place = found
    for parent in parents:
        place = place[parent]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("explanations.conditional.sampels", 5, "unknown key 'sampels': did you mean 'samples'?"),
        ("explanations.conditional.sampler", "conditionl", "did you mean 'conditional'?"),
        ("explanations.conditional.items", [], "explanations.conditional.items: name at least one"),
        ("explanations.conditional.targets", [], "explanations.conditional.targets"),
        ("explanations.conditional.targets", ["probability:x"], "classes are 'control' and"),
        ("explanations.conditional.targets", ["layer:conv1"], "classes are 'control' and"),
        (
            "explanations.conditional.method",
            "magic",
            "unknown kind 'magic': valid kinds are .*'module', ",
        ),
        *(
            (
                "explanations.digits-sensitivity",
                {**method, "classifier": "logistic"},
                "digits-sensitivity.classifier: the method needs a classifier with hidden layers",
            )
            for method in (
                {"method": "concepts"},
                {"method": "feature-inversion"},
                {"method": "captum", "algorithm": "LayerGradCam"},
            )
        ),
        (
            "explanations.digits-sensitivity",
            {"method": "feature-inversion", "classifier": "logistic"},
            "digits-sensitivity.classifier: the method needs a classifier with hidden layers",
        ),
        ("explanations.digits-k1.estimator", "exact", "no exact expectations for networks"),
        *(
            ("explanations.digits-grey.accuracy", value, "explanations.digits-grey.accuracy: ")
            for value in (0, 1, -0.02, 2.0, float("nan"), "high")
        ),
        (
            "explanations.digits-k1.accuracy",
            0.02,
            "explanations.digits-k1: accuracy and samples are both given: .*; remove accuracy, or",
        ),
        *(
            (
                "explanations.digits-grey",
                {"classifier": "network", "sampler": "grey", "accuracy": 0.02, key: value},
                f"explanations.digits-grey: accuracy and {key}.* are both given",
            )
            for key, value in (("stride", 1), ("block", 10))
        ),
        (
            "explanations.digits-grey",
            {
                "classifier": "network",
                "sampler": "grey",
                "accuracy": 0.02,
                "estimator": "exact",
            },
            "explanations.digits-grey: accuracy and estimator are both given",
        ),
        (
            "explanations.marginal.accuracy",
            0.02,
            "explanations.marginal.accuracy: classifier 'logistic' is linear, and is explained",
        ),
        (
            "explanations.digits-k1.held_out",
            True,
            r"'network' has no models of folds, .*convolutional, .*svm.*: remove held_out",
        ),
        ("explanations.digits-k1.nifti", True, "NIfTI files are written for volumes only"),
        ("explanations.digits-k1.sampler", "location", "by location .grid. needs volumes"),
        ("explanations.digits-k1.dataset", "cohort", "dataset 'cohort' contains volumes of one"),
        ("classifiers.network.dataset", "cohort", "takes images of one channel and 8 x 8 pixels"),
        (
            "classifiers.logistic.kind",
            "magic",
            "classifiers.logistic: unknown kind 'magic': valid kinds are",
        ),
        ("classifiers.logistic", {"dataset": "cohort"}, "the key 'kind' is required"),
        (
            "classifiers.logistic.regress_out",
            ["age"],
            "classifiers.logistic.regress_out: 'age' is not among the dataset's `nuisance` columns",
        ),
        ("classifiers.logistic.C", [], "classifiers.logistic.C"),
        (
            "classifiers.logistic",
            {"kind": "regression", "dataset": "cohort", "alpha": []},
            "classifiers.logistic.alpha",
        ),
        (
            "classifiers.logistic",
            {"kind": "regression", "dataset": "cohort"},
            "classifiers.logistic.dataset: a regression needs a column with numbers",
        ),
        (
            "datasets.cohort",
            {"table": "a.tsv", "group": None, "value": "age"},
            "classifiers.logistic.dataset: a classifier needs a column with classes",
        ),
        (
            "classifiers.logistic",
            {"kind": "convolutional", "dataset": "cohort", "folds": 1},
            "classifiers.logistic.folds",
        ),
        (
            "classifiers.logistic",
            {
                "kind": "monai",
                "network": "DenseNet121",
                "weights": "a.pth",
                "dataset": "cohort",
                "outputs": "value",
            },
            "classifiers.logistic.dataset: a regression needs a column with numbers",
        ),
        (
            "classifiers.logistic",
            {"kind": "module", "module": "a.py:f"},
            "crop is required for your own network of images",
        ),
        (
            "classifiers.logistic",
            {"kind": "module", "module": "a.py:f", "dataset": "cohort", "crop": 8},
            "crop is for images: remove it, or the dataset of volumes",
        ),
        (
            "classifiers.logistic",
            {
                "kind": "module",
                "module": "a.py:f",
                "dataset": "cohort",
                "mean": [0.0, 0.0],
                "std": [1.0, 1.0],
            },
            "takes volumes of 2 channels, but dataset 'cohort' contains volumes of one channel",
        ),
        (
            "explanations.conditional.targets",
            ["value:patient"],
            "classifier's outputs are classes: write probability:patient or logit:patient",
        ),
        (
            "explanations.conditional.targets",
            ["logit:old"],
            "'logit:old' is not a class; the .* are",
        ),
        ("classifiers.logistic", "cohort", "classifiers.logistic: keys and their values"),
        ("classifiers.a-summary", {"kind": "digits", "dataset": "digits"}, "reserved for tables"),
        ("datasets.cohort.table", "a.tsv", "datasets.cohort: give exactly one of"),
        ("datasets.cohort", {"file": "fa"}, "datasets.cohort: give exactly one of"),
        ("samplers.grey.patches", 5, "samplers.grey: unknown key 'patches'"),
        ("samplers.grey.value", float("nan"), "samplers.grey.value"),
        ("samplers.marginal.dataset", "digits", "explained items are volumes of one channel"),
        ("figures.figure-11-slices.explanations", ["digits-k1"], "of kind slices show volumes"),
        ("figures.figure-11-slices.explanations", ["k2", "k5"], "this kind of figure shows one"),
        (
            "figures.figure-1-digits-sensitivity.explanations",
            ["digits-k1"],
            "one explanation of magnit",
        ),
        (
            "figures.sheet",
            {"kind": "concepts", "explanations": ["digits-sensitivity"]},
            "figures.sheet.explanations: give an explanation with targets such as layer:xnn",
        ),
        ("seed", 2**70, "seed: "),
        ("seed", -1, "seed: "),
    ],
)
def test_bad_settings_are_refused_by_name(
    settings: dict[str, Any], path: str, value: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        validate(Study, changed(settings, path, value), "configuration")


def test_layers_of_networks_of_values_can_be_explained(settings: dict[str, Any]) -> None:
    settings["datasets"]["ages"] = {"table": "a.tsv", "group": None, "value": "age"}
    own = {"kind": "module", "module": "a.py:f", "dataset": "ages", "outputs": "value"}
    settings["classifiers"]["age"] = own
    targets = ["value:age", "layer:1:0", "map:1:1"]
    entry = {"classifier": "age", "sampler": "grey", "k": 4, "targets": targets}
    settings["explanations"]["age"] = entry
    assert validate(Study, settings, "test").explanations["age"].targets == targets
    entry["targets"] = ["value:years", "layer:1:0"]
    with pytest.raises(InputError, match="'value:years' is not a class; the classes are 'age'"):
        validate(Study, settings, "test")


def test_windows_cannot_overlap_a_slab_that_is_all_that_the_sampler_is_given(
    settings: dict[str, Any],
) -> None:
    settings["samplers"]["conditional"]["surroundings"] = "input"
    validate(Study, settings, "configuration")
    settings["explanations"]["k2"]["beyond_slab"] = True
    message = "explanations.k2.beyond_slab: .* because sampler 'conditional' is given the slab only"
    with pytest.raises(InputError, match=message):
        validate(Study, settings, "configuration")
    settings["explanations"]["k2"]["beyond_slab"] = False
    validate(Study, settings, "configuration")


def explained(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "explanation-network", "classifier": "network", "classes": ["3"], **changes
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": "netwrk"}, "classifiers.xnn.classifier: .*did you mean 'network'"),
        ({"classifier": "logistic"}, "classifiers.xnn.classifier: 'logistic' has no layers"),
        ({"classifier": "xnn"}, "explains a network itself: name the network that it explains"),
        ({"dataset": "cohort"}, "takes images of one channel and 8 x 8 pixels, but .*'cohort'"),
        ({"dataset": "digit"}, "classifiers.xnn.dataset: .*did you mean 'digits'"),
        ({"classes": []}, "classifiers.xnn.classes"),
        ({"alpha": -1}, "classifiers.xnn.alpha"),
        ({"pull_away": "items"}, "classifiers.xnn.pull_away"),
        ({"hidden": []}, "classifiers.xnn.hidden"),
    ],
)
def test_bad_explanation_networks_are_refused(
    settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    settings["classifiers"]["xnn"] = explained(**changes)
    with pytest.raises(InputError, match=message):
        validate(Study, settings, "configuration")


def test_an_explanation_network_needs_a_dataset(settings: dict[str, Any]) -> None:
    settings["datasets"]["images"] = {"images": "images"}
    settings["classifiers"]["alexnet"] = {
        "kind": "torchvision", "name": "alexnet", "resize": 256, "crop": 224
    }  # fmt: skip
    settings["classifiers"]["xnn"] = explained(classifier="alexnet")
    message = "classifiers.xnn.dataset: this key is required, because classifier 'alexnet'"
    with pytest.raises(InputError, match=message):
        validate(Study, settings, "configuration")
    settings["classifiers"]["xnn"]["dataset"] = "images"
    assert validate(Study, settings, "configuration").classifiers["xnn"].channels == 3


def test_an_explanation_network_is_as_the_network_that_it_explains(
    settings: dict[str, Any],
) -> None:
    settings["classifiers"]["xnn"] = explained()
    study = validate(Study, settings, "configuration")
    xnn, network = study.classifiers["xnn"], study.classifiers["network"]
    for name in ("dimensions", "channels", "space", "geometry", "training_dataset"):
        assert getattr(xnn, name) == getattr(network, name)
    assert set(network.code) < set(xnn.code)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("explanations.conditional.items", ["1002"]),
        ("explanations.conditional.items", ["001", "1e3"]),
        ("samplers.grey.value", -1e-05),
        ("explanations.digits-sensitivity.targets", ["probability:3"]),
    ],
)
def test_unusual_settings_keep_their_meaning(
    settings: dict[str, Any], path: str, value: Any
) -> None:
    study = validate(Study, changed(settings, path, value), "configuration")
    section, name, key = path.split(".")
    assert getattr(getattr(study, section)[name], key) == value


def test_gradients_can_be_taken_of_linear_classifiers(settings: dict[str, Any]) -> None:
    gradient = {"method": "sensitivity", "classifier": "logistic"}
    study = validate(Study, changed(settings, "explanations.gradient", gradient), "configuration")
    assert study.explained_dataset(study.explanations["gradient"]) == "cohort"


@pytest.mark.parametrize(
    ("changes", "accuracy"),
    [
        ({}, 0.02),
        ({"accuracy": 0.1}, 0.1),
        ({"samples": 10}, None),
        ({"stride": 1}, None),
        ({"block": 64}, None),
        ({"precision": "bfloat16"}, 0.02),
        ({"precision": "bfloat16", "samples": 10}, None),
        ({"targets": ["probability:top-1", "layer:relu1"]}, None),
        ({"targets": ["layer:relu1"], "accuracy": 0.1}, 0.1),
        ({"estimator": "samples"}, None),
    ],
)
def test_networks_have_an_accuracy_unless_the_papers_settings_are_given(
    settings: dict[str, Any], changes: dict[str, Any], accuracy: float | None
) -> None:
    given = {"classifier": "network", "sampler": "grey", "k": 2, **changes}
    study = validate(Study, changed(settings, "explanations.digits-grey", given), "configuration")
    found: Any = study.explanations["digits-grey"]
    assert found.accuracy_for(study.classifiers["network"]) == accuracy
    if "accuracy" in changes:
        with pytest.raises(InputError, match="accuracy is for networks"):
            found.accuracy_for(study.classifiers["logistic"])
    else:
        assert found.accuracy_for(study.classifiers["logistic"]) is None


@pytest.mark.parametrize(("kind", "column"), [("svm", "group"), ("regression", "age")])
def test_what_a_model_predicts_is_not_regressed_out(
    settings: dict[str, Any], kind: str, column: str
) -> None:
    cohort = {"table": "a.tsv", "value": "age", "nuisance": ["group", "age"]}
    given = changed(settings, "datasets.cohort", cohort)
    model = {"kind": kind, "dataset": "cohort", "regress_out": [column]}
    message = rf"classifiers\.own\.regress_out: '{column}' is what it predicts: remove it"
    with pytest.raises(InputError, match=message):
        validate(Study, changed(given, "classifiers.own", model), "configuration")
    model["regress_out"] = [{"group": "age", "age": "group"}[column]]
    validate(Study, changed(given, "classifiers.own", model), "configuration")


@pytest.mark.parametrize(
    ("targets", "classes", "message"),
    [
        (None, "abc", "for probability:c, since there are more than two classes"),
        (["logit:a", "probability:b"], "abc", "for probability:b, since"),
        (["logit:a", "logit:b"], "abc", None),
        (["probability:b"], "ab", None),
    ],
)
def test_exact_probabilities_are_refused_if_there_are_more_than_two_classes(
    targets: list[str] | None, classes: str, message: str | None
) -> None:
    explanation = {"classifier": "logistic", "sampler": "grey", "estimator": "exact"}
    found = {
        "study": "three",
        "datasets": {"cohort": {"table": "people.tsv", "classes": [*classes]}},
        "classifiers": {"logistic": {"kind": "logistic", "dataset": "cohort"}},
        "samplers": {"grey": {"kind": "grey"}},
        "explanations": {"exact": {**explanation, "targets": targets}},
    }
    if message is None:
        validate(Study, found, "test")
        return
    with pytest.raises(InputError, match=rf"explanations\.exact\.estimator: .*{message}"):
        validate(Study, found, "test")
