"""Contents of pages: what is read from the stores, and what is left out."""

from pathlib import Path

import numpy as np
import pytest

from preddiff.errors import InputError
from preddiff.pages.contents import contents_of, data_names
from preddiff.stages.view import write_page
from tests.unit.pages.decoding import Decoded
from tests.unit.pages.studies import (
    CORNER,
    GROUPS,
    NAMES,
    RAS,
    SPACE,
    Cohort,
    Photographs,
    write_data,
    write_relevance,
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return Cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Photographs:
    return Photographs(tmp_path_factory.mktemp("photographs"))


def page(results: Path, out: Path, **options) -> Decoded:
    write_page(contents_of(results), out, **options)
    return Decoded(out)


def test_a_page_holds_the_maps_of_volumes(cohort, tmp_path: Path) -> None:
    found = page(cohort.results, tmp_path / "page.html")
    assert [one["name"] for one in found.index["items"]] == NAMES
    assert [one["group"] for one in found.index["items"]] == GROUPS
    assert found.index["space"] == list(SPACE)
    assert found.index["affine"] == RAS.tolist()
    first, second = found.index["explanations"]
    assert (first["name"], first["corner"]) == ("first", list(CORNER))
    assert [one["name"] for one in second["targets"]] == ["probability:patient", "logit:patient"]
    assert [one["unit"] for one in second["targets"]] == ["bits", "logits"]
    for number, item in enumerate(found.index["items"]):
        assert found.values(item["picture"]) == pytest.approx(cohort.scans[number], abs=3 / 510)
        (about,), others = item["maps"]
        values = found.values(about["relevance"])
        wanted = cohort.first[number, 0]
        assert values == pytest.approx(
            wanted, abs=float(np.nanmax(np.abs(wanted))) / 65534, nan_ok=True
        )
        errors, truth = found.values(about["error"]), cohort.first_error[number, 0]
        assert np.sqrt(errors) == pytest.approx(np.sqrt(truth), abs=float(truth.max()) ** 0.5 / 508)
        assert (others is None) == (number in (2, 4))
    # Maps whose errors are all zero have none.
    assert found.index["items"][3]["maps"][1][1]["error"] is None
    wanted = cohort.second[2, 1]
    values = found.values(found.index["items"][3]["maps"][1][1]["relevance"])
    assert values == pytest.approx(wanted, abs=float(np.abs(wanted).max()) / 65534)


def test_a_page_holds_the_maps_of_images(photographs, tmp_path: Path) -> None:
    found = page(photographs.results, tmp_path / "page.html")
    assert found.index["kind"] == "images"
    for number, item in enumerate(found.index["items"]):
        assert (found.values(item["picture"]) == photographs.images[number]).all()
        assert item["white"] == pytest.approx(255)
        wanted = photographs.second_error[number, 0]
        errors = found.values(item["maps"][1][0]["error"])
        assert np.sqrt(errors) == pytest.approx(
            np.sqrt(wanted), abs=float(wanted.max()) ** 0.5 / 508
        )
    first, second = found.index["explanations"]
    assert first["error"] == "standard error"
    assert second["error"] == "error (draws and interpolation)"
    assert "niivue" not in found.text


def test_labels_say_what_is_explained(cohort, photographs, tmp_path: Path) -> None:
    found = page(photographs.results, tmp_path / "page.html").index["items"][0]["maps"]
    assert found[0][0]["label"] == "top-1: probability of dog = 0.2"
    assert found[0][1]["label"] == "relu, map 0: 0.32"
    assert found[1][0]["label"] == "logit of dog = 0.2"


def test_predictions_are_listed_by_classifier(tmp_path: Path) -> None:
    data, names = tmp_path / "data/cohort.zarr", ["a", "b"]
    table = tmp_path / "tables/predictions.tsv"
    table.parent.mkdir()
    columns = "item class name rank probability top1 top1_name top1_probability top2 top2_name "
    rows = [
        [*columns.split(), "top2_probability"],
        ["a", "0", "cat", "1", "0.9", "0", "cat", "0.9", "1", "dog", "0.1"],
    ]
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    write_data(data, np.zeros((2, *SPACE), np.float32), names, ["cat", "dog"])
    maps = np.zeros((2, 1, *SPACE), np.float32)
    write_relevance(tmp_path / "relevance/one.zarr", data, names, maps, maps, predictions=table)
    found = page(tmp_path, tmp_path / "page.html").index["items"]
    assert found[0]["facts"] == ["none predicts cat 90.0%, dog 10.0%"]
    assert found[1]["facts"] == []


def test_fewer_items_are_of_all_groups_and_those_of_most_explanations(cohort, tmp_path) -> None:
    found = page(cohort.results, tmp_path / "page.html", items=2)
    # Of those that both explain, one of each group.
    assert [one["name"] for one in found.index["items"]] == ["sub-0", "sub-3"]
    assert found.index["left_out"] == 3


def test_a_page_keeps_to_its_budget_and_says_so(cohort, tmp_path: Path, capsys) -> None:
    whole = page(cohort.results, tmp_path / "whole.html")
    size = (tmp_path / "whole.html").stat().st_size
    budget = (size - 1000) / 1e6
    found = page(cohort.results, tmp_path / "page.html", megabytes=budget)
    assert len(found.index["items"]) == len(whole.index["items"]) - 1
    assert (tmp_path / "page.html").stat().st_size <= budget * 1e6
    assert "1 more are left out" in capsys.readouterr().err


def test_a_budget_that_no_item_fits_still_shows_one(cohort, tmp_path: Path) -> None:
    assert len(page(cohort.results, tmp_path / "page.html", megabytes=0.001).index["items"]) == 1


def test_equal_contents_give_equal_pages(cohort, tmp_path: Path) -> None:
    pages = [page(cohort.results, tmp_path / f"{n}.html").text for n in (1, 2)]
    assert pages[0] == pages[1]


def test_explanations_can_be_chosen(cohort, tmp_path: Path) -> None:
    write_page(contents_of(cohort.results, explanations=["second"]), tmp_path / "page.html")
    found = Decoded(tmp_path / "page.html").index
    assert [one["name"] for one in found["explanations"]] == ["second"]
    assert [one["name"] for one in found["items"]] == ["sub-0", "sub-1", "sub-3"]


def test_of_several_datasets_one_is_named(cohort, photographs, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for kind in ("data", "relevance"):
        (both / kind).mkdir(parents=True)
        for study in (cohort, photographs):
            for path in (study.results / kind).iterdir():
                # Links to stores are not followed to what they refer to.
                (both / kind / f"{study.results.name}-{path.name}").symlink_to(path)
    # What stores refer to has their names.
    for study in (cohort, photographs):
        (both / f"data/{study.results.name}.zarr").symlink_to(
            study.results / f"data/{study.results.name}.zarr"
        )
    assert data_names(both) == ["cohort", "photographs"]
    with pytest.raises(InputError, match="choose one by --data cohort or photographs"):
        contents_of(both)
    assert len(contents_of(both, "cohort").explanations) == 2
    with pytest.raises(InputError, match="no complete explanation of data 'other'"):
        contents_of(both, "other")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no relevance of a study is here"):
        contents_of(tmp_path)
    (tmp_path / "relevance").mkdir()
    with pytest.raises(InputError, match="no explanation of this study is complete"):
        contents_of(tmp_path)
    with pytest.raises(InputError, match="no such store"):
        contents_of(tmp_path, explanations=["first"])
