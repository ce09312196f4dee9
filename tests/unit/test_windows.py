"""Geometry of windows against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preddiff.errors import InputError
from preddiff.evidence import relevance
from preddiff.windows import Surroundings, Windows, inside, offsets


@st.composite
def some_windows(draw: st.DrawFn) -> Windows:
    k = draw(st.integers(1, 4))
    stride = draw(st.integers(1, k))
    space = draw(st.lists(st.integers(k, 9), min_size=1, max_size=3))
    return Windows(tuple(space), k, stride)


def covered(windows: Windows) -> np.ndarray:
    """Count the windows over each voxel by walking through them."""
    counts = np.zeros(windows.space)
    for start in itertools.product(*windows.starts):
        counts[tuple(slice(s, s + windows.k) for s in start)] += 1
    return counts


@given(some_windows())
def test_counts_are_those_of_a_walk_through_all_windows(windows: Windows) -> None:
    assert np.array_equal(windows.counts, covered(windows))


@given(some_windows())
def test_every_voxel_lies_in_a_window(windows: Windows) -> None:
    assert covered(windows).min() >= 1


@given(some_windows(), st.integers(0, 2**32 - 1))
def test_sums_over_and_in_windows_are_transposes(windows: Windows, seed: int) -> None:
    generator = np.random.default_rng(seed)
    per_window, per_voxel = (
        generator.normal(size=windows.shape),
        generator.normal(size=windows.space),
    )
    forth = (windows.sum_over_windows(per_window) * per_voxel).sum()
    back = (per_window * windows.sum_in_windows(per_voxel)).sum()
    assert forth == pytest.approx(back, abs=1e-9)


@given(some_windows(), st.integers(1, 200))
def test_blocks_cut_the_grid_of_windows(windows: Windows, size: int) -> None:
    times = np.zeros(windows.shape)
    blocks = list(windows.blocks(size))
    for block in blocks:
        times[block.slices] += 1
        assert 1 <= block.size <= size
        assert block.shape == times[block.slices].shape
    assert np.array_equal(times, np.ones(windows.shape))
    assert [block.number for block in blocks] == list(range(len(blocks)))


@given(some_windows(), st.integers(1, 60), st.integers(1, 60), st.data())
def test_parts_of_a_block_are_its_windows_in_their_order(
    windows: Windows, block_size: int, size: int, data: st.DataObject
) -> None:
    block = data.draw(st.sampled_from(list(windows.blocks(block_size))))
    parts = list(block.parts(size))
    assert np.array_equal(np.concatenate([part.index for part in parts]), block.index)
    assert all(1 <= part.size <= size and part.number == block.number for part in parts)
    if block.size <= size:
        assert parts == [block]


@given(some_windows(), st.integers(0, 2))
def test_surroundings_lie_inside_and_around_the_window(windows: Windows, margin: int) -> None:
    l = windows.k + 2 * margin
    if l > min(windows.space):
        with pytest.raises(InputError, match=f"l = {l} do not fit"):
            Surroundings(windows, l)
        return
    surroundings = Surroundings(windows, l)
    first = surroundings.first_voxels(windows.everything)
    position = surroundings.positions(windows.everything)
    assert (first >= 0).all() and (first + l <= np.array(windows.space)).all()
    assert (position >= 0).all() and (position + windows.k <= l).all()
    # Off the centre only where the input ends.
    centred = position == margin
    at_border = (first == 0) | (first + l == np.array(windows.space))
    assert (centred | at_border).all()


@given(some_windows(), st.data())
def test_windows_of_a_part_are_its_own_in_their_place(
    windows: Windows, data: st.DataObject
) -> None:
    before = [data.draw(st.integers(0, 3)) for _ in windows.space]
    after = [data.draw(st.integers(0, 3)) for _ in windows.space]
    margins = list(zip(before, after, strict=True))
    part = tuple(slice(b, b + n) for b, n in zip(before, windows.space, strict=True))
    space = tuple(b + n + a for n, (b, a) in zip(windows.space, margins, strict=True))
    larger = Windows(space, windows.k, windows.stride, part)
    assert larger.shape == windows.shape and larger.alone == windows
    for own, alone, b in zip(larger.starts, windows.starts, before, strict=True):
        assert np.array_equal(own, alone + b)
    assert np.array_equal(larger.counts, np.pad(windows.counts, margins))
    assert np.array_equal(larger.cut(larger.counts[None]), windows.counts[None])
    box = tuple(slice(min(b, 1), n - min(a, 1)) for n, (b, a) in zip(space, margins, strict=True))
    assert np.array_equal(larger.cropped(box).counts, larger.counts[box])


@st.composite
def overlapping_windows(draw: st.DrawFn, stride: int | None = None) -> Windows:
    """Windows of boxes of inputs, among them boxes that are thinner than a window."""
    k = draw(st.integers(1, 4))
    space, seen = [], []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(max(k, 2), 9))
        first = draw(st.integers(0, n - 1))
        space.append(n)
        seen.append(slice(first, draw(st.integers(first + 1, n))))
    stride = stride or draw(st.integers(1, k))
    return Windows.overlapping(tuple(space), k, stride, tuple(seen))


@given(overlapping_windows(stride=1))
def test_overlapping_windows_are_all_that_contain_a_seen_voxel(windows: Windows) -> None:
    k, seen = windows.k, np.zeros(windows.space)
    windows.cut(seen)[...] = 1
    places = itertools.product(*(range(n - k + 1) for n in windows.space))
    wanted = [p for p in places if seen[tuple(slice(s, s + k) for s in p)].any()]
    assert list(itertools.product(*windows.starts)) == wanted
    # As many as there are windows of the input, so k^d away from its borders.
    everywhere = Windows(windows.space, k)
    assert np.array_equal(windows.cut(windows.counts), windows.cut(everywhere.counts))
    inside = np.zeros(windows.space, dtype=bool)
    inside[tuple(slice(k - 1, n - k + 1) for n in windows.space)] = True
    assert (windows.counts[inside & (seen > 0)] == k ** len(windows.space)).all()


@given(overlapping_windows(), st.integers(0, 2**32 - 1))
def test_maps_of_overlapping_windows_are_of_seen_voxels(windows: Windows, seed: int) -> None:
    generator = np.random.default_rng(seed)
    evidence = generator.normal(size=(2, *windows.shape))
    totals, counts = np.zeros((2, *windows.space)), np.zeros(windows.space)
    for index, start in zip(
        np.ndindex(windows.shape), itertools.product(*windows.starts), strict=True
    ):
        box = tuple(slice(s, s + windows.k) for s in start)
        totals[(slice(None), *box)] += evidence[(slice(None), *index)][
            (slice(None), *(None,) * len(box))
        ]
        counts[box] += 1
    view = windows.view
    assert counts[view].min() > 0
    expected = totals[(slice(None), *view)] / counts[view]
    assert relevance(evidence, windows) == pytest.approx(expected)
    assert relevance(np.ones(windows.shape), windows) == pytest.approx(1)
    # The same in the part that has windows alone.
    assert np.array_equal(relevance(evidence, windows.alone), relevance(evidence, windows))
    assert windows.alone.margins == windows.margins
    sides = tuple(n - before - after for n, (before, after) in zip(
        windows.alone.space, windows.margins, strict=True
    ))  # fmt: skip
    values = generator.normal(size=(2, *sides))
    padded = windows.padded(values)
    assert np.array_equal(windows.cut(padded), values)
    assert np.abs(padded).sum() == pytest.approx(np.abs(values).sum())


@given(overlapping_windows())
def test_boxes_contain_what_is_seen_of_windows(windows: Windows) -> None:
    block = windows.everything
    sides = [part.stop - part.start for part in windows.view]
    for first, box in zip(windows.first_voxels(block), windows.boxes(block), strict=True):
        for axis, (side, n) in enumerate(zip(windows.box, sides, strict=True)):
            assert box[axis] >= 0 and box[axis] + side <= n and side == min(windows.k, n)
            own = range(first[axis], first[axis] + windows.k)
            seen = {v - windows.view[axis].start for v in own} & set(range(n))
            assert seen <= set(range(box[axis], box[axis] + side)) and seen


def test_whole_inputs_have_no_windows_beyond_them() -> None:
    seen = (slice(0, 5), slice(0, 8))
    windows = Windows.overlapping((5, 8), 3, 1, seen)
    assert windows == Windows((5, 8), 3, part=seen) and windows.alone == Windows((5, 8), 3)


def test_what_is_seen_has_windows() -> None:
    with pytest.raises(InputError, match="sees 2:7 of an input whose part 1:6 has windows"):
        Windows((8,), 2, part=(slice(1, 6),), seen=(slice(2, 7),))


def test_parts_outside_the_input_are_refused() -> None:
    for part in ((slice(2, 6), slice(0, 8)), (slice(-1, 3), slice(0, 8))):
        with pytest.raises(InputError, match="outside an input of 5 x 8 voxels"):
            Windows((5, 8), 3, part=part)
    with pytest.raises(InputError, match="choose k between 1 and 2"):
        Windows((5, 8), 3, part=(slice(2, 4), slice(0, 8)))


@pytest.mark.parametrize("space", [(5,), (4, 6), (3, 4, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_offsets_reach_the_voxels_of_a_patch(space: tuple[int, ...], channels: int) -> None:
    x = np.arange(channels * np.prod(space)).reshape(channels, *space)
    corner = (1,) * len(space)
    patch = x[(slice(None), *(slice(1, 3) for _ in space))]
    found = x.reshape(-1)[np.ravel_multi_index(corner, space) + offsets(2, space, channels)]
    assert np.array_equal(found, patch.reshape(-1))


def test_inside_marks_the_window_in_all_channels() -> None:
    mask = inside(2, 4, (1, 2), channels=2).reshape(2, 4, 4)
    assert mask.sum() == 2 * 4
    assert mask[:, 1:3, 2:4].all()


@pytest.mark.parametrize(
    ("k", "stride", "message"),
    [
        (0, 1, "k = 0 does not fit"),
        (6, 1, "choose k between 1 and 5"),
        (2, 3, "choose a stride between 1 and 2"),
        (2, 0, "choose a stride between 1 and 2"),
    ],
)
def test_windows_that_do_not_fit_are_refused(k: int, stride: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Windows((5, 8), k, stride)


@pytest.mark.parametrize(
    ("k", "l", "message"),
    [
        (3, 2, "l = 2 is smaller than k = 3"),
        (3, 4, "choose l = 3 or l = 5"),
        (3, 7, "choose l up to 5"),
    ],
)
def test_surroundings_that_do_not_fit_are_refused(k: int, l: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Surroundings(Windows((5, 8), k), l)
