"""One file of HTML from the contents of a page: scripts, styles and data are all inside."""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib import colormaps

from preddiff.pages.contents import Contents
from preddiff.pages.packing import Packed
from preddiff.progress import progress
from preddiff.storage.provenance import version

# Items of a page, and its size in megabytes, unless others are asked for.
ITEMS, MEGABYTES = 10, 60.0

# Share of the largest magnitude below which relevance is not shown at first, as in the paper.
_THRESHOLD = 0.15
# Diverging colour maps that people who confuse red and green can read too.
_COLORMAPS = {
    "RdBu_r": "red for, blue against",
    "PuOr_r": "orange for, purple against",
    "BrBG_r": "brown for, teal against",
}
_NODES = 65
_SCRIPTS = {
    "volumes": ("niivue-0.69.0.umd.js", "common.js", "volumes.js"),
    "images": ("common.js", "images.js"),
}
_STYLE = "page.css"
_NOTICE = "niivue-LICENSE.txt"


@dataclass(frozen=True)
class Page:
    """A page, and how much of the contents it has room for.

    Attributes
    ----------
    parts : list of str
        The file, in pieces.
    items : list of str
        Items that it shows.
    left_out : int
        Number of explained items that it does not show.
    """

    parts: list[str]
    items: list[str]
    left_out: int


def make_page(contents: Contents, items: int = ITEMS, megabytes: float = MEGABYTES) -> Page:
    """Make a page that opens from a file.

    Parameters
    ----------
    contents : Contents
    items : int
        How many items it shows at most.
    megabytes : float
        Size that it has at most; items that do not fit are left out, but for the first one.
    """
    index = index_of(contents)
    room = megabytes * 1e6 - sum(map(len, _parts(index, {})))
    ranked = contents.chosen()
    found: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
    for name in progress(ranked[:items], desc="page", unit="item"):
        about, arrays = item_of(contents, name)
        room -= len(_json(about)) + sum(len(_element(*one)) for one in arrays.items())
        if room < 0 and found:
            break
        found[name] = about, arrays
    # In the order of the data store.
    shown = sorted(found, key=contents.items.number)
    index["items"] = [found[name][0] for name in shown]
    index["left_out"] = len(ranked) - len(shown)
    texts = {key: text for name in shown for key, text in found[name][1].items()}
    return Page(list(_parts(index, texts)), shown, index["left_out"])


def served_page(contents: Contents) -> str:
    """Make a page of all items that asks the server that it comes from for each of them."""
    index = index_of(contents)
    index["served"] = True
    index["items"] = [
        {"name": name, "group": contents.items.groups[contents.items.number(name)]}
        for name in sorted(contents.chosen(), key=contents.items.number)
    ]
    return "".join(_parts(index, {}))


def item_of(contents: Contents, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Describe an item for the index of a page, and return the text of its arrays by name."""
    arrays: dict[str, str] = {}
    number = contents.items.number(name)

    def with_names(value: Any) -> Any:
        if isinstance(value, Packed):
            key = f"{number}-{len(arrays)}"
            arrays[key] = value.text()
            return {**value.about(), "array": key}
        if isinstance(value, dict):
            return {key: with_names(one) for key, one in value.items()}
        return [with_names(one) for one in value] if isinstance(value, list) else value

    return with_names(contents.item(name)), arrays


def index_of(contents: Contents) -> dict[str, Any]:
    """Return what a page knows beside its items, which are still to be added."""
    return {
        **contents.about(),
        "items": [],
        "left_out": 0,
        "threshold": _THRESHOLD,
        "colormaps": [_colormap(name, title) for name, title in _COLORMAPS.items()],
        "preddiff": version(),
    }


def _colormap(name: str, title: str) -> dict[str, Any]:
    """Return evenly spaced colours of a colour map, from the lower to the upper end."""
    colours = np.rint(colormaps[name](np.linspace(0, 1, _NODES))[:, :3] * 255).astype(int)
    return {"name": name, "title": title, "colours": colours.tolist()}


def _parts(index: dict[str, Any], arrays: Mapping[str, str]) -> Iterator[str]:
    """Fill the template."""
    kind = index["kind"]
    style, scripts = asset(_STYLE), [asset(name) for name in _SCRIPTS[kind]]
    title = f"{index['study']}: {index['dataset']}"
    pieces = {
        "policy": [_policy(style, scripts, "'self'" if "served" in index else "'none'")],
        "title": [html.escape(title)],
        "style": [f"<style>{style}</style>"],
        "notice": [f"<!--\n{asset(_NOTICE)}-->"] if kind == "volumes" else [],
        "data": [
            f'<script type="application/json" id="index">{_json(index)}</script>\n',
            *(_element(key, text) for key, text in arrays.items()),
        ],
        "scripts": [f"<script>{script}</script>\n" for script in scripts],
    }
    for part in asset(f"{kind}.html").split("@@"):
        yield from pieces.get(part, [part])


def _element(key: str, text: str) -> str:
    """Element that holds an array's text, which has no letters that HTML gives a meaning."""
    return f'<script type="text/plain" id="array-{key}">{text}</script>\n'


def _json(value: Any) -> str:
    """Write JSON that cannot end the element that it is in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, scripts: list[str], connections: str) -> str:
    """Content-Security-Policy: only these scripts and this style, and no network otherwise."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data: blob:; "
        f"connect-src {connections}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def asset(name: str) -> str:
    """Read a file that pages are made from."""
    return files("preddiff.pages").joinpath("assets", name).read_text(encoding="utf-8")


def digest_of_assets() -> str:
    """Digest of the files that pages are made from, since they are no code of Python."""
    scripts = {name for names in _SCRIPTS.values() for name in names}
    names = sorted({*scripts, *(f"{kind}.html" for kind in _SCRIPTS), _STYLE, _NOTICE})
    return hashlib.sha256("\0".join(map(asset, names)).encode()).hexdigest()[:16]
