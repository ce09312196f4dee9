"""Pages of volumes in a real browser: what they show is what the stores contain, where it is."""

import io
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from preddiff.pages.contents import contents_of
from preddiff.stages.view import write_page
from tests.unit.pages.browser import Opened, address, number
from tests.unit.pages.studies import CORNER, NAMES, SPACE, Cohort, write_data, write_relevance
from tests.unit.pages.test_page import HOSTILE

# Printed numbers have three digits.
ROUNDED = 0.006


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return Cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def page(cohort, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "cohort.html"
    write_page(contents_of(cohort.results), out)
    return out


@pytest.fixture
def opened(driver, page) -> Iterator[Opened]:
    """The page as it opens; its console is empty before and after each test."""
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    found = Opened(driver, address(page))
    yield found
    assert found.console() == []
    assert found.requests() == [address(page)]


def go_to(opened: Opened, voxel: tuple[int, ...], panel: int = 0) -> dict[str, str]:
    opened.run(f"volumes.goTo(volumes.panels[{panel}], arguments[0])", list(voxel))
    return opened.readout(panel)


def position(opened: Opened, panel: int = 0) -> list[float]:
    text = opened.readout(panel)["Position"].replace("\u2212", "-").removesuffix(" mm")
    return [float(one) for one in text.split(", ")]


def inside(voxel: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(v - c for v, c in zip(voxel, CORNER, strict=True))


def picture(opened: Opened, panel: int = 0) -> np.ndarray:
    """The view of a panel as it is on the screen (rows, columns, 3)."""
    canvas = opened.driver.find_elements("css selector", ".viewer canvas")[panel]
    image = Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")
    return np.asarray(image).astype(int)


def counts(opened: Opened, panel: int = 0) -> tuple[int, int]:
    """Number of reddish and of bluish pixels; the crosshair is yellow, the scan grey."""
    red, green, blue = np.moveaxis(picture(opened, panel), -1, 0)
    is_yellow = (red > 1.2 * blue) & (green > 0.8 * red)
    return int(((red > blue + 12) & ~is_yellow).sum()), int((blue > red + 12).sum())


def test_values_at_the_crosshair_are_those_of_the_stores(opened, cohort) -> None:
    for voxel in [(3, 0, 0), (6, 9, 7), (5, 4, 2), (4, 7, 5)]:
        found = go_to(opened, voxel)
        place = inside(voxel)
        assert found["Voxel"] == ", ".join(map(str, voxel))
        mm = nib.affines.apply_affine(cohort.affine, voxel)
        assert position(opened) == pytest.approx(mm, abs=0.051)
        assert number(found["Scan"]) == pytest.approx(cohort.scans[0][voxel], abs=0.02)
        wanted = cohort.first[0, 0][place]
        assert number(found["Relevance"]) == pytest.approx(wanted, rel=ROUNDED, abs=1e-4)
        error = cohort.first_error[0, 0][place]
        assert number(found["Standard error"]) == pytest.approx(error, rel=0.05, abs=0.002)
        assert "bits" in found["Relevance"]


def test_the_view_draws_these_values(opened, cohort) -> None:
    for voxel in [(3, 0, 0), (6, 9, 7), (5, 4, 2), (8, 1, 1)]:
        go_to(opened, voxel)
        drawn = opened.run(
            "const {nv, map} = volumes.panels[0];"
            "const mm = nv.frac2mm(nv.scene.crosshairPos, 0, true);"
            "const value = (image) => image.getValue(...image.mm2vox([...mm].slice(0, 3)));"
            "return [value(nv.volumes[0]), value(nv.volumes[1]) * map.limit]"
        )
        scan = cohort.scans[0]
        assert drawn[0] == pytest.approx((scan[voxel] - scan.min()) / np.ptp(scan) * 255, abs=0.51)
        is_outside = voxel[0] >= CORNER[0] + 4
        wanted = 0 if is_outside else cohort.first[0, 0][inside(voxel)]
        assert drawn[1] == pytest.approx(wanted, abs=2e-4)


def test_what_is_not_computed_and_what_is_outside_is_said(opened) -> None:
    missing = go_to(opened, (CORNER[0] + 1, 2, 3))
    assert missing["Relevance"] == "not computed"
    outside = go_to(opened, (1, 2, 3))
    assert outside["Relevance"] == "outside the classifier's input"


def test_it_opens_at_the_largest_relevance(opened, cohort) -> None:
    wanted = np.nanargmax(np.abs(cohort.first[0, 0]))
    place = np.unravel_index(wanted, cohort.first.shape[2:])
    voxel = ", ".join(str(v + c) for v, c in zip(place, CORNER, strict=True))
    assert opened.readout()["Voxel"] == voxel
    assert "100% of the largest" in opened.readout()["Relevance"]
    go_to(opened, (0, 0, 0))
    opened.click("#peak")
    assert opened.readout()["Voxel"] == voxel
    opened.choose("#sign", "only against")
    opened.click("#peak")
    assert number(opened.readout()["Relevance"]) == pytest.approx(
        np.nanmin(cohort.first[0, 0]), rel=ROUNDED
    )


def test_subjects_are_chosen_by_list_buttons_and_keys(opened, cohort) -> None:
    voxel = (4, 3, 2)

    def check(subject: int) -> None:
        opened.settled()
        found = opened.readout()
        assert found["Voxel"] == "4, 3, 2"
        wanted = cohort.first[subject, 0][inside(voxel)]
        assert number(found["Relevance"]) == pytest.approx(wanted, rel=ROUNDED, abs=1e-4)
        assert opened.find(".label").text.startswith(NAMES[subject])

    go_to(opened, voxel)
    assert not opened.find("#previous").is_enabled()
    opened.click("#next")
    check(1)
    opened.find("body").send_keys("n")
    check(2)
    opened.find("body").send_keys("p")
    check(1)
    opened.choose("#item", "sub-4 (patient)")
    check(4)
    assert not opened.find("#next").is_enabled()
    opened.click("#previous")
    check(3)


def test_explanations_and_targets_are_chosen(opened, cohort) -> None:
    opened.choose("#item", "sub-3 (patient)")
    go_to(opened, (4, 3, 2))
    opened.choose(".explanation", "second (conditional, k = 2)")
    place = inside((4, 3, 2))
    for number_of, target in enumerate(["probability:patient", "logit:patient"]):
        opened.choose(".target", target)
        found = opened.readout()
        wanted = cohort.second[2, number_of][place]
        assert number(found["Relevance"].replace("e\u2212", "e-")) == pytest.approx(
            wanted, rel=ROUNDED, abs=1e-10
        )
        assert ("bits", "logits")[number_of] in found["Relevance"]
        assert found["Standard error"] == "0 (exact, or unknown)"
    opened.choose("#item", "sub-2 (control)")
    assert "not explained by second" in opened.find(".label").text
    assert "Relevance" not in opened.readout()


def test_the_threshold_hides_small_relevance(opened) -> None:
    opened.choose("#view", "axial")
    shown = []
    for threshold in (0, 15, 50, 95):
        opened.slide("#threshold", threshold)
        assert opened.find("#threshold-value").text == f"{threshold}%"
        shown.append(sum(counts(opened)))
    assert shown == sorted(shown, reverse=True)
    assert len({*shown}) == 4
    assert shown[-1] < shown[0] / 10


def test_one_sign_is_shown_alone(opened) -> None:
    opened.choose("#view", "axial")
    red, blue = counts(opened)
    assert red > 500
    assert blue > 500
    opened.choose("#sign", "only for")
    assert counts(opened) == (red, 0)
    opened.choose("#sign", "only against")
    assert counts(opened) == (0, blue)


def test_opacity_uncovers_the_scan(opened) -> None:
    opened.choose("#view", "axial")
    opened.slide("#opacity", 0)
    assert counts(opened) == (0, 0)


def test_colours_can_be_changed(opened) -> None:
    opened.choose("#view", "axial")
    before = picture(opened)
    opened.choose("#colormap", "orange for, purple against")
    after = picture(opened)
    # Purple has more red than green; the blue of the first colours has less.
    blue_before = before[(before[..., 2] > before[..., 0] + 40)]
    purple = after[(after[..., 2] > after[..., 1] + 40)]
    assert (blue_before[:, 0] < blue_before[:, 1]).mean() > 0.9
    assert (purple[:, 0] > purple[:, 1]).mean() > 0.9


def test_the_scale_of_all_subjects_is_the_largest(opened, cohort) -> None:
    own, largest = np.nanmax(np.abs(cohort.first[0])), np.nanmax(np.abs(cohort.first))
    assert own < largest

    def limit() -> float:
        return number(opened.find(".scale p").text.split("\u2026 ")[1])

    assert limit() == pytest.approx(own, rel=ROUNDED)
    opened.choose("#scale", "the largest of all subjects")
    assert limit() == pytest.approx(largest, rel=ROUNDED)


def test_known_lesions_are_outlined(opened, cohort) -> None:
    opened.choose("#item", "sub-3 (patient)")
    opened.choose("#view", "axial")
    go_to(opened, (5, 4, 5))
    assert opened.readout()["Known lesion"] == "inside"

    def green() -> int:
        red, green, blue = np.moveaxis(picture(opened), -1, 0)
        return int(((green > 200) & (red < 50) & (blue < 50)).sum())

    assert green() == 0
    opened.click("#truth")
    # All but 2 of 3 x 4 voxels of 2 mm x 3 mm; the view is 30 mm high, and the crosshair on top.
    wanted = 10 * 6 * (len(picture(opened)) / 30) ** 2
    assert 0.9 * wanted < green() < 1.02 * wanted
    go_to(opened, (5, 4, 0))
    assert green() == 0
    assert opened.readout()["Known lesion"] == "outside"


def test_each_view_can_be_chosen(opened) -> None:
    types = {
        "sagittal": "SAGITTAL", "coronal": "CORONAL", "axial": "AXIAL", "3-D": "RENDER",
        "three planes": "MULTIPLANAR", "three planes and 3-D": "MULTIPLANAR",
    }  # fmt: skip
    pictures = {}
    for name, kind in types.items():
        opened.choose("#view", name)
        assert opened.run(
            f"return volumes.panels[0].nv.opts.sliceType === niivue.SLICE_TYPE.{kind}"
        )
        pictures[name] = picture(opened).tobytes()
    assert len({*pictures.values()}) == len(types)


def test_a_second_explanation_is_linked(opened, cohort) -> None:
    opened.click("#compare")
    assert opened.find(".panel:nth-of-type(2)").is_displayed()
    go_to(opened, (4, 3, 2))
    first, second = opened.readout(0), opened.readout(1)
    assert first["Voxel"] == second["Voxel"] == "4, 3, 2"
    wanted = cohort.second[0, 0][inside((4, 3, 2))]
    assert number(second["Relevance"].replace("e\u2212", "e-")) == pytest.approx(
        wanted, rel=ROUNDED, abs=1e-10
    )
    go_to(opened, (5, 6, 1), panel=1)
    assert opened.readout(0)["Voxel"] == "5, 6, 1"
    click(opened, 0.3, 0.4, panel=1)
    assert opened.readout(0)["Voxel"] == opened.readout(1)["Voxel"] != "5, 6, 1"
    opened.choose(".explanation", "first (conditional, k = 2)", panel=1)
    assert opened.readout(0)["Relevance"] == opened.readout(1)["Relevance"]
    opened.click("#next")
    assert all(label.text.startswith("sub-1") for label in labels(opened))
    opened.click("#compare")
    assert not opened.find(".panel:nth-of-type(2)").is_displayed()


def labels(opened: Opened) -> list:
    return opened.driver.find_elements("css selector", ".label")


def click(opened: Opened, across: float, down: float, panel: int = 0) -> None:
    """Click in a view, at shares of its width and height."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = opened.driver.find_elements("css selector", ".viewer canvas")[panel]
    width, height = canvas.size["width"], canvas.size["height"]
    offset = round((across - 0.5) * width), round((down - 0.5) * height)
    ActionChains(opened.driver).move_to_element_with_offset(canvas, *offset).click().perform()


def test_names_are_text(driver, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    write_page(contents_of(Cohort(tmp_path, names=HOSTILE).results), out)
    driver.get_log("browser"), driver.get_log("performance")
    opened = Opened(driver, address(out))
    options = [
        one.get_attribute("textContent")
        for one in opened.find("#item").find_elements("css selector", "option")
    ]
    assert [one.rpartition(" (")[0] for one in options] == HOSTILE
    for number_of in range(len(HOSTILE)):
        assert opened.find(".label").get_attribute("textContent").startswith(HOSTILE[number_of])
        opened.find("body").send_keys("n")
        opened.settled()
    assert opened.run("return document.querySelectorAll('img').length") == 0
    assert opened.console() == []
    assert opened.requests() == [address(out)]


def test_a_tap_moves_the_crosshair(opened) -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    opened.choose("#view", "axial")
    sides = []
    for offset in (-40, 40):
        before = opened.readout()["Position"]
        touch = ActionBuilder(opened.driver, mouse=PointerInput(POINTER_TOUCH, "finger"))
        finger = touch.pointer_action
        finger.move_to(opened.find(".viewer canvas"), offset, 0).pointer_down()
        # A finger stays for a while; a second tap within half a second would be a double one.
        finger.pause(0.2).pointer_up().pause(0.6)
        touch.perform()
        opened.until(
            "return document.querySelector('.readout td').textContent !== arguments[0]", before
        )
        sides.append(position(opened)[0])
    assert sides[0] < sides[1]


def affines() -> dict[str, np.ndarray]:
    ras = np.diag([2.0, 2.5, 3.0, 1.0])
    ras[:3, 3] = (-9, -12, -14)
    las = ras @ np.diag([-1.0, 1, 1, 1])
    las[0, 3] = 9
    # The first axis points to superior, the second to the left, the third to posterior.
    permuted = np.array([[0, -2.0, 0, 8], [0, 0, -2.5, 11], [3.0, 0, 0, -13], [0, 0, 0, 1]])
    angles = np.deg2rad([17, -12, 23])
    oblique = nib.eulerangles.euler2mat(*angles) @ permuted[:3, :3]
    turned = np.eye(4)
    turned[:3, :3], turned[:3, 3] = oblique, (4, 9, -11)
    return {"RAS": ras, "LAS": las, "permuted": permuted, "oblique": turned}


@pytest.fixture(scope="module", params=affines())
def marked(request, driver, tmp_path_factory) -> tuple[Opened, np.ndarray, dict]:
    """The page of a volume with one marked voxel in each octant, each of another value."""
    affine = affines()[request.param]
    results = tmp_path_factory.mktemp("marked") / "results/marked"
    near, far = (2, 2, 1), (6, 7, 6)
    marks = {}
    relevance = np.zeros((1, 1, *SPACE), np.float32)
    for octant in range(8):
        voxel = tuple((far if octant >> axis & 1 else near)[axis] for axis in range(3))
        marks[voxel] = (octant + 1.0) * (-1) ** octant
        relevance[0, 0][voxel] = marks[voxel]
    data = results / "data/marked.zarr"
    write_data(data, np.abs(relevance[0]), ["one"], ["patient"], affine)
    stderr = np.abs(relevance) / 10
    classes = ["control", "patient"]
    write_relevance(
        results / "relevance/marks.zarr", data, ["one"], relevance, stderr, classes=classes
    )
    out = results / "page.html"
    write_page(contents_of(results), out)
    return Opened(driver, address(out)), affine, marks


def test_marks_are_where_nibabel_says(marked) -> None:
    opened, affine, marks = marked
    for voxel, value in marks.items():
        mm = nib.affines.apply_affine(affine, voxel)
        # NiiVue alone: from millimetres to its own voxels, and the values that it draws.
        drawn = opened.run(
            "const {nv, map} = volumes.panels[0]; const [image, relevance] = nv.volumes;"
            "nv.scene.crosshairPos = nv.mm2frac(arguments[0], 0, true);"
            "nv.createOnLocationChange();"
            "return [image, relevance].map((one) => one.getValue(...one.mm2vox(arguments[0])))",
            list(mm),
        )
        assert drawn[0] == pytest.approx(abs(value) / 8 * 255, abs=0.5)
        assert drawn[1] == pytest.approx(value / 8, abs=1e-4)
        found = opened.readout()
        assert found["Voxel"] == ", ".join(map(str, voxel))
        assert position(opened) == pytest.approx(mm, abs=0.051)
        assert number(found["Relevance"]) == pytest.approx(value, rel=ROUNDED)
        assert number(found["Standard error"]) == pytest.approx(abs(value) / 10, rel=0.02)


def test_keys_move_to_the_sides_that_they_name(marked) -> None:
    opened, affine, _ = marked
    from selenium.webdriver.common.keys import Keys

    steps = {
        Keys.ARROW_RIGHT: (0, 1), Keys.ARROW_LEFT: (0, -1), Keys.ARROW_UP: (1, 1),
        Keys.ARROW_DOWN: (1, -1), Keys.PAGE_UP: (2, 1), Keys.PAGE_DOWN: (2, -1),
    }  # fmt: skip
    go_to(opened, (4, 5, 3))
    for key, (axis, sign) in steps.items():
        before = position(opened)
        opened.find("body").send_keys(key)
        moved = np.subtract(position(opened), before)
        assert np.abs(moved).argmax() == axis
        assert np.sign(moved[axis]) == sign
        size = np.linalg.norm(affine[:3, :3], axis=0)
        assert np.linalg.norm(moved) == pytest.approx(
            size[np.abs(affine[axis, :3]).argmax()], abs=0.15
        )


def test_left_and_right_are_where_the_letters_say(marked) -> None:
    opened, _, _ = marked
    opened.choose("#view", "axial")
    sides = {}
    for radiological in (False, True):
        if opened.find("#radiological").is_selected() != radiological:
            opened.click("#radiological")
        for side, across in (("left", 0.42), ("right", 0.58)):
            click(opened, across, 0.5)
            sides[radiological, side] = position(opened)[0]
    opened.click("#radiological")
    click(opened, 0.5, 0.42)
    front = position(opened)[1]
    click(opened, 0.5, 0.58)
    back = position(opened)[1]
    assert sides[False, "left"] < sides[False, "right"]
    assert sides[True, "left"] > sides[True, "right"]
    assert front > back
