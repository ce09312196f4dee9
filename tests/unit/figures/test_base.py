"""Titles of maps by methods with and without windows."""

import pytest

from preddiff.figures.base import titled, window_side


@pytest.mark.parametrize(
    ("provenance", "windows", "title"),
    [
        ({"expectations": "conditional.zarr", "sampler": "grey"}, 1, "map (k = 1)"),
        ({"algorithm": "Occlusion"}, None, "map"),
    ],
)
def test_only_relevance_from_expectations_has_windows(
    provenance: dict[str, str], windows: int | None, title: str
) -> None:
    found = window_side({"k": 1, "provenance": provenance})
    assert found == windows
    assert titled("map", found) == title
