"""The server of pages: what it answers, to whom, and that its pages show what files show."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from preddiff.errors import InputError
from preddiff.pages.server import Pages, server_of
from tests.unit.pages.browser import Opened, number
from tests.unit.pages.decoding import values_of
from tests.unit.pages.studies import CORNER, Cohort, Photographs
from tests.unit.pages.test_page import HOSTILE


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return Cohort(tmp_path_factory.mktemp("cohort"), names=HOSTILE)


@pytest.fixture(scope="module")
def port(cohort) -> Iterator[int]:
    with server_of(Pages(cohort.results), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def get(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_items_and_arrays_are_answered(port: int, cohort) -> None:
    status, text = get(port, "/cohort/item-3")
    assert status == 200
    about = json.loads(text)
    assert about["name"] == HOSTILE[3]
    relevance = about["maps"][0][0]["relevance"]
    status, text = get(port, f"/cohort/{relevance['array']}")
    assert status == 200
    wanted = cohort.first[3, 0]
    assert values_of(text, relevance) == pytest.approx(
        wanted, abs=float(np.abs(wanted).max()) / 65534
    )


@pytest.mark.parametrize(
    "path",
    [
        "/other.html", "/cohort/item-5", "/cohort/item-1-2", "/cohort/9-0", "/cohort/1-99",
        "/cohort/1", "/../cohort.zarr/zarr.json", "/cohort/..%2fzarr.json", "/data/cohort.zarr",
        "/cohort.html?x",
    ],
)  # fmt: skip
def test_nothing_else_is_answered(port: int, path: str) -> None:
    assert get(port, path) == (404, "there is no such page\n")


def test_pages_of_other_sites_are_not_answered(port: int) -> None:
    assert get(port, "/", f"attacker.example:{port}")[0] == 403
    assert get(port, "/", f"localhost:{port}")[0] == 200


def test_it_listens_on_this_computer_alone(cohort) -> None:
    with server_of(Pages(cohort.results), 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_said(cohort) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="choose another one"):
            server_of(Pages(cohort.results), taken.getsockname()[1])


def test_a_study_without_explanations_is_refused(tmp_path) -> None:
    (tmp_path / "relevance").mkdir()
    with pytest.raises(InputError, match="no explanation of this study is complete"):
        Pages(tmp_path)


def test_volumes_in_a_browser(driver, port: int, cohort) -> None:
    start = f"http://127.0.0.1:{port}/"
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(start)
    address = driver.find_element("css selector", "a").get_attribute("href")
    opened = Opened(driver, address)
    opened.click("#compare")
    opened.run("volumes.goTo(volumes.panels[0], [4, 3, 2])")
    for place in range(2):
        wanted = cohort.first[place, 0][tuple(np.subtract((4, 3, 2), CORNER))]
        assert number(opened.readout()["Relevance"]) == pytest.approx(wanted, rel=0.006)
        assert opened.find(".label").get_attribute("textContent").startswith(HOSTILE[place])
        opened.click("#next")
    errors = [one for one in opened.console() if "favicon" not in one]
    assert errors == []
    assert all(asked.startswith(start) for asked in opened.requests())


def test_images_in_a_browser(driver, tmp_path) -> None:
    photographs = Photographs(tmp_path)
    with server_of(Pages(photographs.results), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        opened = Opened(driver, f"http://127.0.0.1:{port}/photographs.html")
        opened.click("#next")
        opened.run("images.mark(9, 2)")
        wanted = photographs.second[1, 0, 2, 9]
        assert number(opened.readout(1)["Relevance"]) == pytest.approx(wanted, rel=0.006)
        driver.get("about:blank")
        server.shutdown()
        thread.join()
