"""The plan of a study: its paths, shards, resources and digests."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.classifiers.base import CLASSIFIERS
from preddiff.paths import distinct_names, pattern, trackable
from preddiff.settings.base import validate
from preddiff.settings.study import Study
from preddiff.workflow import Plan, growing
from tests.unit.configurations import every_kind

ROOT = Path(__file__).parents[2]
# Few letters, so that names often begin or end like others.
names = st.from_regex(r"\A[ab1][ab1-]{0,4}\Z")


def plan_of(settings: dict[str, Any]) -> Plan:
    return Plan(validate(Study, settings, "test"))


@pytest.fixture
def settings() -> dict[str, Any]:
    return every_kind()


@given(st.lists(st.lists(names, min_size=1, max_size=4).map(tuple)))
def test_no_two_keys_have_the_same_name(keys: list[tuple[str, ...]]) -> None:
    found = distinct_names(keys)
    assert set(found) == set(keys)
    assert len(set(found.values())) == len(found)


def test_names_are_joined_by_hyphens_where_that_is_clear() -> None:
    assert distinct_names([("digits", "network"), ("a",)]) == {
        ("digits", "network"): "digits-network",
        ("a",): "a",
    }
    assert set(distinct_names([("a-b", "c"), ("a", "b-c")]).values()) == {"a-b.c", "a.b-c"}


@given(st.sets(names, min_size=2, max_size=4), st.sets(names, min_size=1, max_size=3))
def test_no_two_tables_and_stores_of_a_study_are_one_file(
    datasets: set[str], classifiers: set[str]
) -> None:
    network = {"kind": "module", "module": "net.py:f", "mean": [0.0] * 3, "std": [1.0] * 3}
    explanation = {"sampler": "s", "k": 2, "l": 4}
    study = {
        "study": "s",
        "datasets": {name: {"images": "images"} for name in datasets},
        "classifiers": {
            name: {**network, "crop": 8 + number, "resize": 9}
            for number, name in enumerate(sorted(classifiers))
        },
        "samplers": {"s": {"kind": "conditional"}},
        "explanations": {
            f"e{d}-{c}": {"classifier": classifier, "dataset": dataset, **explanation}
            for d, dataset in enumerate(sorted(datasets))
            for c, classifier in enumerate(sorted(classifiers))
        },
    }
    plan = plan_of(study)
    pairs = len(datasets) * len(classifiers)
    for paths in (
        [plan.data_of(name) for name in plan.study.explanations],
        [plan.gaussian_store(name)[0] for name in plan.study.explanations],
        [plan.predictions_of(name)[0] for name in plan.study.explanations],
        [
            plan.table("deletion", f"{name}{end}")
            for name in plan.compared
            for end in ("", "-summary")
        ][::2],
    ):
        assert len(set(paths)) == len(paths) == pairs


def test_default_study_keeps_its_paths(settings: dict[str, Any]) -> None:
    plan = plan_of(settings)
    results = "results/phantom"
    assert plan.data_of("conditional") == f"{results}/data/cohort.zarr/zarr.json"
    assert plan.gaussian_of("location") == "cohort-l7-location-axis0-29-40"
    assert plan.gaussian_of("digits-k1") == "digits-l5-conditional"
    assert plan.predictions_of("digits-k1") == [f"{results}/tables/predictions-digits-network.tsv"]
    assert plan.predictions_of("conditional") == []
    assert list(plan.compared) == [
        "cohort-volume-network",
        "photographs-efficientnet",
        "digits-network",
    ]
    assert plan.filling_explanation("digits-network") == "digits-conditional"
    wanted = plan.everything()
    assert f"{results}/tables/localisation-logistic-summary.tsv" in wanted
    assert f"{results}/tables/deletion-digits-network-summary.tsv" in wanted
    assert f"{results}/relevance/conditional-nifti" in wanted
    assert f"{results}/tables/foretold.tsv" in wanted
    assert len(wanted) == len(set(wanted))


def test_gaussians_by_location_are_fitted_where_windows_are_centred(
    settings: dict[str, Any],
) -> None:
    def margin() -> int:
        return json.loads(plan_of(settings).gaussian_settings(name))["margin"]

    name, location = "cohort-l7-location-axis0-29-40", settings["explanations"]["location"]
    assert margin() == 1
    settings["explanations"]["larger"] = {**location, "k": 5}
    assert margin() == 2
    settings["explanations"]["larger"]["beyond_slab"] = False
    assert margin() == 1
    settings["samplers"]["location"]["surroundings"] = "input"
    assert margin() == 0


def test_each_explained_data_store_has_a_page(settings: dict[str, Any]) -> None:
    plan = plan_of(settings)
    assert plan.pages.keys() == {"cohort", "digits", "photographs-256-224"}
    assert plan.pages["cohort"][:2] == ["conditional", "location"]
    explained = [name for names in plan.pages.values() for name in names]
    assert sorted(explained) == sorted(settings["explanations"])
    assert plan.inputs_of_page("cohort") == [
        "results/phantom/data/cohort.zarr/zarr.json",
        "results/phantom/tables/predictions-cohort-volume-network.tsv",
    ]
    assert "results/phantom/tables/predictions-digits-network.tsv" in plan.inputs_of_page("digits")
    assert "results/phantom/pages/cohort.html" in plan.everything()
    del settings["page_items"]
    assert plan_of(settings).pages == {}


def test_only_explanations_that_draw_from_a_gaussian_are_foretold(settings: dict[str, Any]) -> None:
    plan = plan_of(settings)
    given = plan.foretold_arguments()
    assert given[::4] == ["--explanation"] * len(plan.conditional)
    assert list(zip(given[1::4], given[2::4], given[3::4], strict=True))[:3] == [
        ("conditional", "3", "results/phantom/gaussians/cohort-l7-conditional.zarr"),
        ("location", "3", "results/phantom/gaussians/cohort-l7-location-axis0-29-40.zarr"),
        ("samples", "3", "results/phantom/gaussians/cohort-l7-conditional.zarr"),
    ]
    settings["explanations"] = {"grey": settings["explanations"]["grey"]}
    settings["figures"] = {}
    plan = plan_of(settings)
    assert plan.conditional == []
    assert plan.table_of_foretold not in plan.everything()


def annotated(folder: Path, **datasets: dict[str, Any]) -> dict[str, Any]:
    """A study of two datasets of images, with a network each and one for both."""
    network = {"kind": "module", "module": "net.py:f", "mean": [0.0] * 3, "std": [1.0] * 3}
    explained = [("one", "a"), ("one", "both"), ("two", "both"), ("one", "a")]
    return {
        "study": "s",
        "datasets": {name: {"images": str(folder), **keys} for name, keys in datasets.items()},
        "classifiers": {name: {**network, "crop": 8, "resize": 9} for name in ("a", "both")},
        "explanations": {
            f"e{number}": {
                "classifier": classifier,
                "dataset": dataset,
                "method": "sensitivity",
                "items": ["image.png"],
            }
            for number, (dataset, classifier) in enumerate(explained)
        },
    }


@pytest.mark.parametrize(
    "keys", [{"boxes_column": "b"}, {"annotations": "xml"}, {"masks_column": "m"}, {"masks": "m"}]
)
def test_maps_of_annotated_images_are_localised(tmp_path: Path, keys: dict[str, str]) -> None:
    settings = annotated(tmp_path, one=keys, two={})
    (tmp_path / "image.png").touch()
    plan = plan_of(settings)
    assert list(plan.objects) == ["one-a", "one-both"]
    assert plan.explanations_of_objects("one-a") == ["e0", "e3"]
    assert plan.data_of_objects("one-both") == plan.data_of("e1")
    wanted = [path for path in plan.everything() if "localisation" in path]
    assert wanted == [
        "results/s/tables/localisation-one-a-summary.tsv",
        "results/s/tables/localisation-one-both-summary.tsv",
    ]
    assert plan.localising == []


def test_tables_of_lesions_and_of_objects_are_different_files(settings: dict[str, Any]) -> None:
    assert plan_of(settings).objects == {}
    more = annotated(Path("images"), logistic={"masks": "masks"}, two={})
    for section in ("datasets", "classifiers", "explanations"):
        settings[section] |= more[section]
    for name in ("e0", "e1", "e3"):
        settings["explanations"][name]["dataset"] = "logistic"
    # A pair and a classifier of the same name.
    settings["classifiers"]["logistic-a"] = settings["classifiers"]["logistic"]
    settings["explanations"]["lesions"] = {
        "classifier": "logistic-a", "method": "sensitivity",
    }  # fmt: skip
    plan = plan_of(settings)
    assert plan.localising == ["logistic", "volume-network", "logistic-a"]
    assert list(plan.objects) == ["logistic.a", "logistic-both"]
    assert plan.explanations_of_objects("logistic.a") == ["e0", "e3"]


@pytest.mark.parametrize(
    ("targets", "compared"),
    [
        (["layer:relu5"], []),
        (["map:relu5:1"], []),
        (["layer:relu5", "logit:3"], ["digits-network"]),
    ],
)
def test_there_are_curves_only_if_a_target_is_of_a_class(
    settings: dict[str, Any], targets: list[str], compared: list[str]
) -> None:
    kept = settings["explanations"]["digits-conditional"] | {"targets": targets}
    concepts = {"method": "concepts", "classifier": "network", "targets": ["layer:relu5"]}
    settings["explanations"] = {"digits-conditional": kept, "concepts": concepts}
    settings["figures"] = {}
    assert list(plan_of(settings).compared) == compared


def test_what_is_said_of_unseen_items_is_in_tables_of_its_own(settings: dict[str, Any]) -> None:
    one = settings["explanations"]["network-k5"]
    settings["explanations"]["unseen"] = {**one, "held_out": True}
    plan = plan_of(settings)
    names = ["cohort-volume-network", "cohort-volume-network-held-out"]
    assert [name for name in plan.predicted if "volume" in name] == names
    for name, explanation, options in zip(
        names, ("network-k5", "unseen"), ([], ["--held-out"]), strict=True
    ):
        assert plan.predictions_of(explanation) == [plan.table("predictions", name)]
        assert plan.compared_explanations(name) == [explanation]
        assert plan.models_arguments(plan.predicted[name]) == options
        assert plan.models_arguments(plan.compared[name]) == options
    del settings["explanations"]["network-k5"]
    settings["figures"] = {}
    assert [name for name in plan_of(settings).predicted if "volume" in name] == names[1:]


def test_shards_cover_every_item_once(settings: dict[str, Any]) -> None:
    settings["explanations"]["conditional"]["items_per_job"] = 40
    plan = plan_of(settings)
    shards = [Path(path).stem.split("-") for path in plan.shards_of("conditional")]
    ranges = [range(int(first), int(last)) for _, first, last in shards]
    assert [one.start for one in ranges] == [0, 40, 80, 120, 160]
    assert {n for one in ranges for n in one} >= set(range(170))
    assert plan.number_of_items("conditional") == 170
    assert plan.number_of_items("samples") == 10
    assert plan.number_of_items("digits-k1") == 40


def test_jobs_of_networks_last_about_an_hour(settings: dict[str, Any]) -> None:
    plan = plan_of(settings)
    assert plan.items_per_job("conditional") == 200
    # 49 windows of 20 draws would leave a job millions of items.
    assert plan.items_per_job("digits-conditional") == 1000
    settings["explanations"]["digits-conditional"]["samples"] = 1_000_000
    assert plan_of(settings).items_per_job("digits-conditional") == 3600 * 50_000 // 49_000_000


def test_jobs_are_larger_the_less_accurate_maps_are(settings: dict[str, Any]) -> None:
    one = settings["explanations"]["digits-conditional"]
    one |= {"samples": None, "accuracy": 0.02, "targets": ["probability:top-1"], "k": 1, "l": 5}
    assert plan_of(settings).items_per_job("digits-conditional") == 1000
    one["accuracy"] = 0.0001
    # A quarter of a draw of each of 64 windows at 0.02, and 200^2 times as many here.
    expected = 3600 * 50_000 // (16 * 200**2)
    assert plan_of(settings).items_per_job("digits-conditional") == expected


def test_relevance_has_more_time_where_it_is_interpolated(settings: dict[str, Any]) -> None:
    one = settings["explanations"]["digits-conditional"]
    assert plan_of(settings).minutes_of_relevance("digits-conditional") == 60
    one |= {"samples": None, "accuracy": 0.05, "targets": ["probability:top-1", "logit:top-1"]}
    assert plan_of(settings).minutes_of_relevance("digits-conditional") == 60
    one["items"] = 10**7
    assert plan_of(settings).minutes_of_relevance("digits-conditional") == 214


def test_jobs_of_methods_without_windows_last_about_an_hour(settings: dict[str, Any]) -> None:
    one = settings["explanations"]["digits-sensitivity"]
    assert plan_of(settings).items_per_job("digits-sensitivity") == 1000
    settings["explanations"]["digits-sensitivity"] = {**one, "method": "rise"}
    assert plan_of(settings).items_per_job("digits-sensitivity") == 60


def test_gpus_are_for_networks_that_are_not_bound_to_the_cpu(settings: dict[str, Any]) -> None:
    settings["explanations"]["digits-k1"]["device"] = "cpu"
    plan = plan_of(settings)
    assert plan.gpus_of("conditional") == 0 and plan.gpus_of("digits-k1") == 0
    assert plan.gpus_of("digits-k3") == 1 and plan.gpus_of("digits-sensitivity") == 1


def test_settings_reach_stages_as_they_were_written(settings: dict[str, Any]) -> None:
    settings["explanations"]["digits-k1"]["items"] = ["1002"]
    settings["samplers"]["grey"]["value"] = -1e-05
    plan = plan_of(settings)
    assert json.loads(plan.expectation_settings("digits-k1"))["windows"]["items"] == ["1002"]
    assert json.loads(plan.expectation_settings("grey"))["sampler"]["value"] == -1e-05


def test_what_does_not_change_results_is_in_no_settings(settings: dict[str, Any]) -> None:
    before = plan_of(settings)
    one = settings["explanations"]["digits-k1"]
    one |= {"batch_size": 3, "items_per_job": 2}
    after = plan_of(settings)
    assert after.expectation_settings("digits-k1") == before.expectation_settings("digits-k1")
    assert after.batch_size_of("digits-k1") == 3


def test_samplers_learn_from_their_own_dataset(settings: dict[str, Any]) -> None:
    settings["datasets"]["others"] = {"phantom": {"patients": 3, "controls": 3}}
    settings["samplers"]["elsewhere"] = {"kind": "marginal", "dataset": "others"}
    settings["explanations"]["marginal"]["sampler"] = "elsewhere"
    plan = plan_of(settings)
    assert plan.sampled_data_of("marginal") == "results/phantom/data/others.zarr/zarr.json"
    assert "results/phantom/data/others.zarr" in plan.open_arguments("marginal")
    assert plan.data_of("marginal") == "results/phantom/data/cohort.zarr/zarr.json"


def test_an_explanation_network_is_made_from_another_network(settings: dict[str, Any]) -> None:
    settings["datasets"]["images"] = {"images": "images"}
    settings["classifiers"] |= {
        "alexnet": {"kind": "torchvision", "name": "alexnet", "resize": 256, "crop": 224},
        "three": {"kind": "explanation-network", "classifier": "network", "classes": ["3"]},
        "photos": {
            "kind": "explanation-network",
            "classifier": "alexnet",
            "dataset": "images",
            "classes": ["9"],
        },
    }
    plan = plan_of(settings)
    folder = "results/phantom/classifiers"
    assert plan.base_of("three") == [f"{folder}/network/classifier.json"]
    assert plan.base_of("network") == []
    arguments = plan.classifier_arguments("three")
    assert arguments[arguments.index("--classifier") + 1] == f"{folder}/network"
    assert arguments[arguments.index("--data") + 1] == "results/phantom/data/digits.zarr"
    # Names of a study do not change results.
    assert set(json.loads(arguments[1])).isdisjoint({"classifier", "dataset", "kind"})
    # Images as the network sees them, though no explanation uses them.
    assert plan.training_data_of("photos") == ["results/phantom/data/images-256-224.zarr/zarr.json"]
    assert "images-256-224" in plan.image_stores
    wanted = plan.everything()
    for name in ("three", "photos"):
        assert f"results/phantom/tables/concepts-{name}.tsv" in wanted
        assert f"{folder}/{name}/cv.json" in wanted
    # A change of the network's own code changes what explains it.
    assert plan.code_of_classifier("three") != plan.code_of_classifier("photos")


def test_photographs_are_written_before_they_are_read(settings: dict[str, Any]) -> None:
    plan = plan_of(settings)
    sheet = "results/phantom/photographs/photographs/photographs.tsv"
    assert plan.datasets_with_table_from("photographs") == ["photographs", "patches"]
    assert plan.table_of("photographs") == sheet
    assert plan.image_files("photographs-256-224") == [sheet]
    images = json.loads(plan.image_settings("photographs-256-224"))
    assert images["images"]["images"] == sheet
    assert images["geometry"] == {"resize": 256, "crop": 224}
    assert json.loads(plan.table_settings("photographs"))["names"] == ["chelsea", "coffee"]
    assert plan.sampled_data_of("coffee").endswith("data/patches-256-224.zarr/zarr.json")
    assert plan.table_of("cohort") == "results/phantom/cohorts/cohort/participants.tsv"


def test_patterns_match_names_and_nothing_else() -> None:
    import re

    wanted = re.compile(pattern(["a-b.c", "d"]))
    assert wanted.fullmatch("a-b.c") and wanted.fullmatch("d")
    assert not wanted.fullmatch("a-bxc")
    assert not re.compile(pattern([])).search("anything")


def test_resources_grow_with_each_attempt() -> None:
    assert [growing(4000)(None, attempt) for attempt in (1, 2, 3)] == [4000, 8000, 12000]


def test_files_with_braces_are_left_to_the_stage() -> None:
    assert trackable(Path("a/b.nii.gz")) and not trackable(Path("a/{b}.nii.gz"))


def test_kinds_that_one_subcommand_makes_share_a_rule(settings: dict[str, Any]) -> None:
    settings["classifiers"]["svm"] = {"kind": "svm", "dataset": "cohort"}
    plan = plan_of(settings)
    rules = {kind.command: plan.classifiers(kind) for kind in plan.classifier_kinds}
    assert rules["train"] == ["logistic", "svm"]
    made = [name for names in rules.values() for name in names]
    assert sorted(made) == sorted(settings["classifiers"])
    for kind in plan.classifier_kinds:
        same = [one for one in CLASSIFIERS if one.command == kind.command]
        assert {(one.files, one.is_light) for one in same} == {(kind.files, kind.is_light)}
