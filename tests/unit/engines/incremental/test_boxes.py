"""Boxes against brute force: whole maps, convolved and cut by hand."""

import importlib
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from preddiff.engines.incremental import boxes
from preddiff.engines.incremental.boxes import Boxes, Changed, Field, Intact


@st.composite
def fields(draw, dimensions: int = 2) -> tuple[Field, tuple[int, ...], tuple[int, ...]]:
    """A field, the space that it reads, and the space of its output."""
    side = st.integers(1, 4)
    each = [
        (draw(side), draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 2)))
        for _ in range(dimensions)
    ]
    kernel, stride, padding, dilation = (tuple(part) for part in zip(*each, strict=True))
    field = Field(kernel, stride, padding, dilation)
    space = tuple(draw(st.integers(4, 12)) for _ in range(dimensions))
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(space, kernel, stride, padding, dilation, strict=True)
    )
    assume(min(out) >= 1)
    return field, space, out


@st.composite
def starts_in(draw, space: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    count = draw(st.integers(1, 4))
    return np.array(
        [[draw(st.integers(0, n - s)) for n, s in zip(space, size, strict=True)]
         for _ in range(count)]
    )  # fmt: skip


def mask(start: np.ndarray, size: tuple[int, ...], space: tuple[int, ...]) -> np.ndarray:
    marked = np.zeros(space, dtype=bool)
    marked[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return marked


def seen(marked: np.ndarray, field: Field) -> np.ndarray:
    """Units of the output that read any marked unit, by an actual convolution."""
    x = torch.from_numpy(marked).double()[None, None]
    kernel = torch.ones((1, 1, *field.kernel), dtype=torch.float64)
    convolve = {2: F.conv2d, 3: F.conv3d}[marked.ndim]
    return (convolve(x, kernel, None, field.stride, field.padding, field.dilation) > 0)[
        0, 0
    ].numpy()


@settings(deadline=None)
@given(st.data(), st.sampled_from([2, 3]))
def test_boxes_hold_all_units_that_read_a_window_and_no_more(data, dimensions: int) -> None:
    field, space, out = data.draw(fields(dimensions))
    size = tuple(data.draw(st.integers(1, min(4, n))) for n in space)
    starts = data.draw(starts_in(space, size))
    boxes = Boxes(starts, size).through(field, out)
    tight, all_are_read = np.ones(dimensions, dtype=int), True
    for start, box in zip(starts, boxes.starts, strict=True):
        changed = seen(mask(start, size, space), field)
        # Units beyond the last place of a kernel are read by none; their box says nothing.
        all_are_read &= bool(changed.any())
        assert not (changed & ~mask(box, boxes.size, out)).any()
        if changed.any():
            places = np.argwhere(changed)
            tight = np.maximum(tight, places.max(0) - places.min(0) + 1)
    assert (boxes.starts >= 0).all() and (boxes.last < np.array(out)).all()
    # Dilation and strides leave gaps, so that the hull can be wider than what changes.
    no_gaps = max(field.dilation) == 1 and all(
        k >= s for k, s in zip(field.kernel, field.stride, strict=True)
    )
    if no_gaps and all_are_read:
        assert boxes.size == tuple(tight)


@pytest.fixture(scope="module", params=["torch", "Triton"])
def way_of_reading(request):
    """How regions are read: by torch, or by the kernel for GPUs, which Triton then interprets."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "Triton":
            pytest.importorskip("triton")
            patch.setenv("TRITON_INTERPRET", "1")
            patch.delitem(sys.modules, "preddiff.engines.incremental.paste", raising=False)
            usable = importlib.import_module("preddiff.engines.incremental.paste").usable
            patch.setattr(boxes, "_has_kernel", usable)
        yield request.param
    sys.modules.pop("preddiff.engines.incremental.paste", None)


@settings(deadline=None)
@given(st.data(), st.sampled_from([2, 3]), st.integers(1, 3), st.sampled_from([0.0, -np.inf, 2.5]))
def test_reading_is_cutting_out_of_padded_maps(
    way_of_reading, data, dimensions, draws, padding
) -> None:
    field, space, out = data.draw(fields(dimensions))
    size = tuple(data.draw(st.integers(1, min(4, n))) for n in space)
    starts = data.draw(starts_in(space, size))
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((1, 3, *space), generator=generator)
    values = torch.randn((len(starts) * draws, 3, *size), generator=generator)
    x = Changed(Intact(maps), values, Boxes(starts, size))

    whole = maps.repeat(len(values), *[1] * (dimensions + 1))
    for row, value in enumerate(values):
        inside = tuple(slice(a, a + n) for a, n in zip(starts[row // draws], size, strict=True))
        whole[(row, slice(None), *inside)] = value
    assert boxes._has_kernel(maps.device) == (way_of_reading == "Triton")
    assert x.whole().equal(whole)

    read = x.boxes.through(field, out).read_by(field)
    margin = 30
    padded = F.pad(whole, (margin,) * 2 * dimensions, value=padding)
    found = x.read(read, padding)
    for row in range(len(values)):
        cut = tuple(
            slice(a + margin, a + margin + n)
            for a, n in zip(read.starts[row // draws], read.size, strict=True)
        )
        assert found[row].equal(padded[(row, slice(None), *cut)])

    change = whole.double() - maps.double()
    expected = change.flatten(2).mean(2)
    torch.testing.assert_close(x.mean_changes(), expected, rtol=1e-6, atol=1e-7)


@given(st.data())
def test_unions_hold_both_boxes(data) -> None:
    space = (9, 7)
    both = [tuple(data.draw(st.integers(1, 4)) for _ in space) for _ in range(2)]
    first = data.draw(starts_in(space, both[0]))
    second = np.array(
        [[data.draw(st.integers(0, n - s)) for n, s in zip(space, both[1], strict=True)]
         for _ in first]
    )  # fmt: skip
    union = Boxes(first, both[0]).union(Boxes(second, both[1]), space)
    for a, b, c in zip(first, second, union.starts, strict=True):
        either = mask(a, both[0], space) | mask(b, both[1], space)
        assert not (either & ~mask(c, union.size, space)).any()


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_share_is_that_of_the_map(share: float) -> None:
    side = int(8 * share**0.5)
    x = Changed(
        Intact(torch.zeros((1, 2, 8, 8))),
        torch.zeros((1, 2, side, side)),
        Boxes(np.zeros((1, 2), dtype=np.int64), (side, side)),
    )
    assert x.share == share
    assert x.shape == (1, 2, 8, 8)


def test_where_triton_fails_torch_gathers(monkeypatch, capsys) -> None:
    pytest.importorskip("triton")
    paste = importlib.import_module("preddiff.engines.incremental.paste")
    monkeypatch.setattr(paste, "gather_and_paste", _without_a_compiler)
    paste.usable.cache_clear()
    assert not paste.usable(torch.device("cpu"))
    paste.usable.cache_clear()
    assert "Failed to find C compiler" in capsys.readouterr().err


def _without_a_compiler(*_):
    raise RuntimeError("Failed to find C compiler. Please specify via CC")
