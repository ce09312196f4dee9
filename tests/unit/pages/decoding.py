"""Reading a page as its scripts do: an oracle that shares no code with what writes it."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np


class Elements(HTMLParser):
    """Script elements of a page with an id, and all others by tag, as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.by_id: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._open: str | None = None
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self._tag, self._open = tag, dict(attrs).get("id") if tag == "script" else None

    def handle_data(self, data) -> None:
        if self._open:
            self.by_id[self._open] = self.by_id.get(self._open, "") + data
        elif self._tag == "title":
            self.title += data

    def handle_endtag(self, tag) -> None:
        self._open, self._tag = None, ""


class Decoded:
    """A page's index, and its arrays as values."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        # Python's parser takes minutes for what NiiVue compares by `<`.
        self.without_scripts = re.sub(r"<script>.*?</script>", "", self.text, flags=re.S)
        self.elements = Elements(self.without_scripts)
        self.index: dict[str, Any] = json.loads(self.elements.by_id["index"])

    def values(self, about: dict[str, Any]) -> np.ndarray:
        return values_of(self.elements.by_id[f"array-{about['array']}"], about)


def values_of(text: str, about: dict[str, Any]) -> np.ndarray:
    codes = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.dtype(about["dtype"]))
    codes = codes.reshape(about["shape"], order="F")
    power = {"linear": 1, "square": 2}[about["law"]]
    values = about["offset"] + about["scale"] * codes.astype(np.float64) ** power
    return (
        values if about["missing"] is None else np.where(codes == about["missing"], np.nan, values)
    )
