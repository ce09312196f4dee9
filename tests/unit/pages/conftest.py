"""One browser for all pages of a file: starting it takes longer than most of its tests."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.pages.browser import browser


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found
