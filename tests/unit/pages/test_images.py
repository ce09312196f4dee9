"""Pages of images in a real browser: pixels, values and errors are those of the stores."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps

from preddiff.pages.contents import contents_of
from preddiff.stages.view import write_page
from tests.unit.pages.browser import Opened, address, number
from tests.unit.pages.studies import Photographs, write_relevance

# Printed numbers have three digits.
ROUNDED = 0.006
SECOND = "second (conditional, k = 2)"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Photographs:
    return Photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def page(photographs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "photographs.html"
    write_page(contents_of(photographs.results), out)
    return out


@pytest.fixture
def opened(driver, page) -> Iterator[Opened]:
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    found = Opened(driver, address(page))
    yield found
    assert found.console() == []
    assert found.requests() == [address(page)]


def pixels(opened: Opened, panel: int) -> np.ndarray:
    """The pixels of a picture (rows, columns, 3); 0 is the image, then come the maps."""
    found = opened.run(
        "const canvas = document.querySelectorAll('.picture canvas')[arguments[0]];"
        "const {width, height} = canvas;"
        "const copy = new OffscreenCanvas(width, height).getContext("
        "'2d', {willReadFrequently: true});"
        "copy.drawImage(canvas, 0, 0);"
        "const {data} = copy.getImageData(0, 0, width, height);"
        "return [height, width, [...data]]",
        panel,
    )
    return np.array(found[2]).reshape(found[0], found[1], 4)[..., :3]


def drawn(
    image: np.ndarray,
    relevance: np.ndarray,
    threshold: float = 0.15,
    opacity: float = 0.85,
    colormap: str = "RdBu_r",
    limit: float | None = None,
) -> np.ndarray:
    """What a map should look like, by NumPy and Matplotlib; where it is known."""
    grey = np.tensordot([0.299, 0.587, 0.114], image.astype(float), 1)[..., None].repeat(3, -1)
    share = relevance / (limit or np.nanmax(np.abs(relevance)))
    colours = colormaps[colormap]((share + 1) / 2)[..., :3] * 255
    is_shown = np.abs(share) >= threshold
    return np.where(is_shown[..., None], opacity * colours + (1 - opacity) * grey, grey)


def known(relevance: np.ndarray) -> np.ndarray:
    """Voxels whose share of the largest is not so near a threshold that rounding decides."""
    share = np.abs(relevance) / np.nanmax(np.abs(relevance))
    near = [np.abs(share - threshold) < 1e-3 for threshold in (0.15, 0.5)]
    return np.isfinite(share) & ~np.any(near, axis=0)


def test_the_image_and_its_maps_are_drawn(opened, photographs) -> None:
    assert (pixels(opened, 0) == np.moveaxis(photographs.images[0], 0, -1)).all()
    for panel, maps in enumerate((photographs.first, photographs.second)):
        wanted, is_known = drawn(photographs.images[0], maps[0, 0]), known(maps[0, 0])
        # Colours are interpolated between 65 of Matplotlib's 256.
        assert np.abs(pixels(opened, panel + 1) - wanted)[is_known].max() <= 4


def test_values_and_errors_are_those_of_the_pixel_that_is_pointed_at(opened, photographs) -> None:
    assert opened.readout()["Relevance"] == "point at a pixel"
    for x, y in [(0, 0), (15, 11), (4, 3), (9, 2)]:
        point(opened, x, y)
        assert opened.find("#place").text == f"Pixel: column {x}, row {y}"
        one, other = opened.readout(0), opened.readout(1)
        first, second = photographs.first[0, 0, y, x], photographs.second[0, 0, y, x]
        assert number(one["Relevance"]) == pytest.approx(first, rel=ROUNDED, abs=1e-4)
        assert number(other["Relevance"]) == pytest.approx(second, rel=ROUNDED, abs=1e-4)
        stderr, error = photographs.first_error[0, 0, y, x], photographs.second_error[0, 0, y, x]
        assert number(one["Standard error"]) == pytest.approx(stderr, rel=0.05, abs=0.002)
        found = number(other["Error (draws and interpolation)"])
        assert found == pytest.approx(error, rel=0.05, abs=0.002)
        assert one["Relevance"].endswith("bits")
        assert other["Relevance"].endswith("logits")


def point(opened: Opened, x: int, y: int, picture: int = 1) -> None:
    """Move the mouse to a pixel of a picture."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = opened.driver.find_elements("css selector", ".picture canvas")[picture]
    opened.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    side = canvas.size["width"] / 16
    offset = round((x + 0.5 - 8) * side), round((y + 0.5 - 6) * side)
    ActionChains(opened.driver).move_to_element_with_offset(canvas, *offset).perform()


def test_a_tap_marks_a_pixel(opened) -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    canvas = opened.driver.find_elements("css selector", ".picture canvas")[1]
    opened.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    touch = ActionBuilder(opened.driver, mouse=PointerInput(POINTER_TOUCH, "finger"))
    side = canvas.size["width"] / 16
    touch.pointer_action.move_to(canvas, round(3.5 * side), round(-1.5 * side)).pointer_down()
    touch.pointer_action.pointer_up()
    touch.perform()
    assert opened.find("#place").text == "Pixel: column 11, row 4"


def test_arrows_move_the_marked_pixel(opened) -> None:
    from selenium.webdriver.common.keys import Keys

    point(opened, 4, 3)
    for key, place in [
        (Keys.ARROW_RIGHT, "column 5, row 3"), (Keys.ARROW_DOWN, "column 5, row 4"),
        (Keys.ARROW_LEFT, "column 4, row 4"), (Keys.ARROW_UP, "column 4, row 3"),
    ]:  # fmt: skip
        opened.find("body").send_keys(key)
        assert opened.find("#place").text == f"Pixel: {place}"


def test_what_is_not_computed_is_said_and_drawn_apart(opened) -> None:
    opened.click("#next")
    point(opened, 4, 3)
    assert opened.readout()["Relevance"] == "not computed"
    red, green, blue = pixels(opened, 1)[3, 4]
    assert (red, green, blue) in {(255, 230, 0), (90, 90, 90)}


def test_maps_that_explain_the_image_are_shown_until_others_are_chosen(driver, tmp_path) -> None:
    study = Photographs(tmp_path)
    second = study.results / "relevance/second.zarr"
    shutil.rmtree(second)
    data = study.results / "data/photographs.zarr"
    maps = study.second[1:2]
    write_relevance(second, data, ["b.png"], maps, 0 * maps, ["logit:dog"], ["cat", "dog"])
    write_page(contents_of(study.results), tmp_path / "page.html")
    opened = Opened(driver, address(tmp_path / "page.html"))

    def shown() -> list[str]:
        chosen = "select.explanation option:checked"
        options = driver.find_elements("css selector", f"#panels {chosen}")
        return [option.text.partition(" ")[0] for option in options]

    assert shown() == ["first"]
    opened.click("#next")
    assert shown() == ["first", "second"]
    opened.choose("#panels .target", "map:relu:0")
    opened.click("#previous")
    assert shown() == ["first", "second"]
    assert "not explained by second" in opened.find("#panels").text


def test_images_are_chosen(opened, photographs) -> None:
    for act, shown in [
        (lambda: opened.click("#next"), 1),
        (lambda: opened.find("body").send_keys("n"), 2),
        (lambda: opened.click("#previous"), 1),
        (lambda: opened.choose("#item", "a.png (cat)"), 0),
    ]:
        act()
        opened.settled()
        assert (pixels(opened, 0) == np.moveaxis(photographs.images[shown], 0, -1)).all()
        assert opened.find("#facts").text.startswith(photographs.names[shown])
        maps = photographs.second[shown, 0]
        wanted = drawn(photographs.images[shown], maps)
        assert np.abs(pixels(opened, 2) - wanted)[known(maps)].max() <= 4


def test_hidden_maps_and_explanations_are_chosen(opened, photographs) -> None:
    opened.choose(".target", "map:relu:0")
    assert opened.find(".panel:nth-of-type(2) .label").text == "relu, map 0: 0.32"
    wanted = drawn(photographs.images[0], photographs.first[0, 1])
    is_known = known(photographs.first[0, 1])
    assert np.abs(pixels(opened, 1) - wanted)[is_known].max() <= 4
    opened.choose(".explanation", SECOND)
    wanted = drawn(photographs.images[0], photographs.second[0, 0])
    is_known = known(photographs.second[0, 0])
    assert np.abs(pixels(opened, 1) - wanted)[is_known].max() <= 4


def test_maps_are_added_and_removed(opened, photographs) -> None:
    def count() -> int:
        return len(opened.driver.find_elements("css selector", ".panel .readout"))

    assert count() == 2
    for added in (3, 4):
        opened.click("#add")
        assert count() == added
    # After the second explanation come the targets of the first.
    wanted = drawn(photographs.images[0], photographs.first[0, 1])
    assert np.abs(pixels(opened, 4) - wanted)[known(photographs.first[0, 1])].max() <= 4
    opened.click(".remove")
    assert count() == 3


def test_threshold_opacity_colours_and_grey(opened, photographs) -> None:
    image, maps = photographs.images[0], photographs.second[0, 0]
    opened.slide("#threshold", 50)
    wanted = drawn(image, maps, threshold=0.5)
    assert np.abs(pixels(opened, 2) - wanted)[known(maps)].max() <= 4
    opened.slide("#opacity", 40)
    wanted = drawn(image, maps, threshold=0.5, opacity=0.4)
    assert np.abs(pixels(opened, 2) - wanted)[known(maps)].max() <= 4
    opened.choose("#colormap", "orange for, purple against")
    wanted = drawn(image, maps, threshold=0.5, opacity=0.4, colormap="PuOr_r")
    assert np.abs(pixels(opened, 2) - wanted)[known(maps)].max() <= 4
    opened.click("#grey")
    opened.slide("#opacity", 0)
    assert np.abs(pixels(opened, 2) - np.moveaxis(image, 0, -1)).max() <= 1


def test_known_objects_are_outlined(opened, photographs) -> None:
    before = pixels(opened, 0)
    opened.click("#truth")
    edge = photographs.truth[0] > 0
    edge[4:8, 5:9] = False
    for picture in range(3):
        assert (pixels(opened, picture)[edge] == (0, 255, 0)).all()
    assert (pixels(opened, 0)[~edge] == before[~edge]).all()


def test_signs_and_scales(opened, photographs) -> None:
    maps = photographs.second[0, 0]
    is_for = maps > 0
    both = pixels(opened, 2)
    opened.choose("#sign", "only for")
    one = pixels(opened, 2)
    assert (one[is_for] == both[is_for]).all()
    wanted = drawn(photographs.images[0], np.where(is_for, np.nan, maps), threshold=2)
    assert np.abs(one - wanted)[~is_for].max() <= 1
    opened.choose("#sign", "only against")
    assert (pixels(opened, 2)[~is_for] == both[~is_for]).all()
    opened.choose("#sign", "for and against")
    opened.choose("#scale", "the largest of all images")
    limit = np.abs(photographs.second).max()
    assert f"{limit:.3g} logits for" in opened.find(".panel:nth-of-type(3) .scale p").text
    wanted = drawn(photographs.images[0], maps, limit=limit)
    is_known = np.abs(np.abs(maps) / limit - 0.15) > 1e-3
    assert np.abs(pixels(opened, 2) - wanted)[is_known].max() <= 4


def test_it_fits_a_narrow_screen(driver, page) -> None:
    driver.set_window_size(420, 900)
    try:
        opened = Opened(driver, address(page))
        assert opened.run("return document.documentElement.scrollWidth") <= 500
    finally:
        driver.set_window_size(1100, 900)
