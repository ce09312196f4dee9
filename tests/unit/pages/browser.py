"""A real browser for tests of pages: Chromium, with WebGL in software."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Seconds that a page may take on a busy machine.
_PATIENCE = 60


@contextmanager
def browser(width: int = 1100, height: int = 900) -> Iterator[Any]:
    """A browser that notes its console and all requests; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--hide-scrollbars", f"--window-size={width},{height}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


class Opened:
    """A page in a browser."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        driver.get(address)
        self.until("return document.body.dataset.ready === 'true'")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: str, *arguments: object) -> None:
        """Wait for a condition in JavaScript."""
        end = time.monotonic() + _PATIENCE
        while not self.run(condition, *arguments):
            assert time.monotonic() < end, (condition, self.console())
            time.sleep(0.05)

    def settled(self) -> None:
        """Wait until what was chosen is shown."""
        self.until("return preddiff.pending() === 0")

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()
        self.settled()

    def choose(self, selector: str, text: str, panel: int = 0) -> None:
        """Choose an option by its text, as a person does."""
        from selenium.webdriver.support.ui import Select

        found = self.driver.find_elements("css selector", selector)[panel]
        Select(found).select_by_visible_text(text)
        self.settled()

    def slide(self, selector: str, value: int) -> None:
        """Drag a slider near a value, and take the last step by the keyboard."""
        from selenium.webdriver.common.keys import Keys

        slider = self.find(selector)
        is_lowest = value == int(slider.get_attribute("min"))
        near = value + int(slider.get_attribute("step")) * (1 if is_lowest else -1)
        self.run("arguments[0].value = arguments[1]", slider, near)
        slider.send_keys(Keys.ARROW_LEFT if is_lowest else Keys.ARROW_RIGHT)
        assert int(slider.get_attribute("value")) == value
        self.settled()

    def readout(self, panel: int = 0) -> dict[str, str]:
        """What is printed below a panel."""
        rows = self.run(
            "return [...document.querySelectorAll('.readout')[arguments[0]].rows]"
            ".map((row) => [...row.cells].map((cell) => cell.textContent))",
            panel,
        )
        return dict(rows)

    def console(self) -> list[str]:
        """Errors and warnings of the console since the last call."""
        return [
            line["message"]
            for line in self.driver.get_log("browser")
            if line["level"] in ("SEVERE", "WARNING")
        ]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, except those inside the page."""
        events = [
            json.loads(one["message"])["message"] for one in self.driver.get_log("performance")
        ]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]


def number(text: str) -> float:
    """A printed number, with or without its unit."""
    return float(text.split(" ")[0].replace("\u2212", "-"))


def address(path: Path) -> str:
    return path.resolve().as_uri()
