"""The file of a page: names are text, and nothing may be loaded from elsewhere."""

import base64
import hashlib
import re

import pytest

from preddiff.pages.contents import contents_of
from preddiff.pages.page import asset, digest_of_assets
from preddiff.stages.view import write_page
from tests.unit.pages.decoding import Decoded
from tests.unit.pages.studies import Cohort, Photographs

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(2)>',
    "&lt;b&gt;\u2028</title>",
    "@@scripts@@",
]


@pytest.fixture(scope="module", params=[Cohort, Photographs])
def decoded(request, tmp_path_factory) -> Decoded:
    folder = tmp_path_factory.mktemp("page")
    names = HOSTILE if request.param is Cohort else HOSTILE[:3]
    write_page(contents_of(request.param(folder, names=names).results), folder / "page.html")
    return Decoded(folder / "page.html")


def test_hostile_names_are_text(decoded: Decoded) -> None:
    names = [one["name"] for one in decoded.index["items"]]
    assert names == HOSTILE[: len(names)]
    assert {tag for tag, _ in decoded.elements.tags}.isdisjoint({"img", "iframe", "link", "object"})
    assert "alert(1)</script>" not in decoded.text
    # As many scripts as the page has of its own, and data that are not run.
    run = [about for tag, about in decoded.elements.tags if tag == "script" and "type" not in about]
    assert run == []


def test_the_policy_allows_these_scripts_and_no_network(decoded: Decoded) -> None:
    (policy,) = [
        about["content"]
        for tag, about in decoded.elements.tags
        if tag == "meta" and about.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert rules.keys() == {
        "default-src", "script-src", "style-src", "img-src", "connect-src", "base-uri",
        "form-action",
    }  # fmt: skip
    for tag in ("script", "style"):
        # Scripts contain the tags of styles.
        text = decoded.text if tag == "script" else decoded.without_scripts
        inside = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.S)
        hashes = [hashlib.sha256(text.encode()).digest() for text in inside]
        wanted = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in hashes)
        assert rules[f"{tag}-src"] == wanted != ""


def test_nothing_is_referred_to(decoded: Decoded) -> None:
    for tag, about in decoded.elements.tags:
        assert about.keys().isdisjoint({"src", "href", "action", "srcset"}), tag


def test_volumes_carry_the_licence_of_niivue(decoded: Decoded) -> None:
    has_niivue = "niivue.Niivue(" in decoded.text
    assert has_niivue == (decoded.index["kind"] == "volumes")
    assert ("Copyright (c) 2021, Niivue" in decoded.text) == has_niivue


def test_controls_have_labels(decoded: Decoded) -> None:
    page = asset(f"{decoded.index['kind']}.html")
    for control in re.finditer(r"<(select|input|canvas tabindex|button)[^>]*>", page):
        before = page[: control.start()]
        is_labelled = before.rfind("<label") > before.rfind("</label>")
        named = "aria-label" in control[0] or re.match("[^<]+", page[control.end() :])
        assert is_labelled or named, control[0]


def luminance(colour: str) -> float:
    """Relative luminance of a colour #rrggbb (WCAG 2.2)."""
    shares = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(
    ("text", "ground", "least"),
    [
        ("#1a1a1a", "#f1f3f5", 4.5), ("#4a4a4a", "#ffffff", 4.5), ("#6b6b6b", "#f1f3f5", 4.5),
        ("#7a150c", "#fdecea", 4.5), ("#0b57a4", "#f1f3f5", 3), ("#8a8a8a", "#ffffff", 3),
    ],
)  # fmt: skip
def test_contrast_is_that_of_wcag_aa(text: str, ground: str, least: float) -> None:
    style = asset("page.css")
    assert text in style
    light, dark = sorted([luminance(text), luminance(ground)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def test_a_change_of_scripts_is_noticed(monkeypatch) -> None:
    before = digest_of_assets()
    monkeypatch.setattr("preddiff.pages.page.asset", lambda name: asset(name) + " ")
    assert digest_of_assets() != before
