"""The incremental engine against the dense one, in float32 and with draws."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from preddiff.classifiers import torchvision
from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.datasets.pictures import read_image
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.incremental.network import IncrementalNetwork
from preddiff.engines.incremental.operations import convolutions, pooling
from preddiff.errors import InputError
from preddiff.evidence import Expectations, weight_of_evidence
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import generator, window_voxels
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Box, Surroundings, Windows
from tests.conftest import smooth

SPACE, K, L = (40, 44), 4, 6
TARGETS = ("probability:0", "logit:2", "map:0:1", "map:3:2")


def small_network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def images() -> np.ndarray:
    found = smooth(np.random.default_rng(1), (20, 3, *SPACE))
    return (found - found.min()) / np.ptp(found)


def engines(
    module: nn.Module, targets=TARGETS, samples: int = 4, precision="float32", **options
) -> tuple:
    standardisation = Standardisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    network = Network(prepared(module), {}, ("a", "b", "c"), 50, SPACE, standardisation)
    readout = Readout(tuple(Target.parse(text) for text in targets))
    source = Conditional(PatchGaussian.fit(images(), L, patches=4000), (0.0, 1.0))
    return tuple(
        kind(
            NetworkNodes(
                network, readout, {"item 0": [0, 2, -1, -1][: len(targets)]}, precision=precision
            ),
            source,
            Windows(SPACE, K, stride=3),
            samples,
            seed=2,
            standardisation=standardisation,
            **options,
        )
        for kind in (Dense, Incremental)
    )


@pytest.mark.parametrize(("samples", "batch_size"), [(1, None), (4, 3), (4, None)])
def test_expectations_are_those_of_the_dense_engine(samples: int, batch_size) -> None:
    dense, ours = engines(small_network(), samples=samples, batch_size=batch_size)
    block = dense.windows.everything
    x = images()[:1]
    expected = dense.expectations(x, ["item 0"], block)
    done: list[float] = []
    found = ours.expectations(x, ["item 0"], block, done.append)
    assert ours.network is not None
    assert sum(done) == pytest.approx(block.size)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    scale = np.abs(expected.change).max(axis=(2, 3), keepdims=True)
    assert (np.abs(found.change - expected.change) / scale).max() < 1e-4
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-2, atol=1e-10)


def convolutional_head() -> nn.Module:
    """Ends with a convolution, as SqueezeNet does."""
    return nn.Sequential(
        *list(small_network())[:5], nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


@pytest.mark.parametrize("module", [small_network, convolutional_head])
def test_reduced_precision_is_as_near_as_in_whole_passes(module) -> None:
    windows = engines(module())[0].windows.everything
    (full, _), (dense, ours) = engines(module()), engines(module(), precision="bfloat16")
    exact, whole, changes = (
        one.expectations(images()[:1], ["item 0"], windows).change for one in (full, dense, ours)
    )
    assert ours.network is not None and not ours.network.whole_map_operations
    error, usual = (
        np.sqrt(((found - exact) ** 2).mean(axis=(0, 2, 3))) for found in (changes, whole)
    )
    assert (error > 0).all() and (error < 1.5 * usual).all()


class Same:
    """Redraws every window by what is there."""

    random = False

    def draw(self, x: Tensor, item, windows, block, samples, generator) -> Tensor:
        voxels = torch.from_numpy(window_voxels(windows, block, len(x)))
        return x.reshape(-1)[voxels][:, None].repeat(1, samples, 1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_redrawing_nothing_changes_nothing(precision: str) -> None:
    _, ours = engines(small_network(), precision=precision)
    _, usual = engines(small_network())
    ours.sampler = Same()
    block = ours.windows.everything
    found = ours.expectations(images()[:1], ["item 0"], block).change
    scale = np.abs(usual.expectations(images()[:1], ["item 0"], block).change).max(axis=(2, 3))
    assert (np.abs(found).max(axis=(2, 3)) <= 1e-3 * scale).all()


def test_running_out_of_memory_makes_batches_smaller(monkeypatch, capsys) -> None:
    _, ours = engines(small_network())
    expected = engines(small_network())[1].expectations(
        images()[:1], ["item 0"], ours.windows.everything
    )
    evaluate = IncrementalNetwork.outputs

    def outputs(self, intact, values, boxes):
        if len(values) > 20:
            raise torch.OutOfMemoryError("no memory")
        return evaluate(self, intact, values, boxes)

    monkeypatch.setattr(IncrementalNetwork, "outputs", outputs)
    found = ours.expectations(images()[:1], ["item 0"], ours.windows.everything)
    np.testing.assert_allclose(found.change, expected.change, atol=1e-6)
    assert "out of memory: continuing with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("slab", "overlapping"),
    [
        (slice(2, 14), False),
        (slice(2, 14), True),
        (slice(6, 12), True),
        # Thinner than a window.
        (slice(7, 9), True),
    ],
)
def test_volumes_with_known_surroundings_against_whole_passes_in_float64(
    slab: slice, overlapping: bool
) -> None:
    """The network sees the middle of the volume; the sampler sees what is around it, too."""
    torch.manual_seed(4)
    module = nn.Sequential(
        nn.Conv3d(1, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv3d(6, 5, 3, padding=1),
        nn.MaxPool3d((min(2, (slab.stop - slab.start) // 2), 2, 2)),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(5, 2),
    )
    k, l, space = 3, 7, (slab.stop - slab.start, 18, 16)
    volumes = smooth(np.random.default_rng(1), (8, 1, 16, *space[1:]))
    sampler = Conditional(PatchGaussian.fit(volumes, l, patches=4000))
    make = Windows.overlapping if overlapping else Windows
    windows = make(volumes.shape[2:], k, 2, (slab, *(slice(0, n) for n in space[1:])))
    assert Surroundings(windows, l).region[0].start < slab.start
    standardisation = Standardisation((0.1,), (2.0,))
    network = Network(prepared(module), {}, ("a", "b"), 50, space, standardisation)
    targets = tuple(Target.parse(text) for text in ("probability:0", "logit:1", "map:0:1"))
    dense, ours = (
        kind(
            NetworkNodes(network, Readout(targets), {"item": [0, 1, -1]}),
            sampler,
            windows,
            2,
            seed=2,
            standardisation=standardisation,
        )
        for kind in (Dense, Incremental)
    )
    exact = copy.deepcopy(network.module).double()

    def nodes(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            first = exact[0](torch.from_numpy((x[None].astype(np.float64) - 0.1) / 2))
            logits = exact[1:](first)[0]
        return np.array([torch.softmax(logits, 0)[0], logits[1], first[0, 1].mean()])

    x = volumes[0]
    intact = nodes(x[:, slab])
    blocks, rows = list(windows.blocks(40)), []
    # At both borders of the slab, and inside it.
    chosen = blocks[0], blocks[5], blocks[-1]
    for block in chosen:
        draws = sampler.draw(
            torch.from_numpy(x), "item", windows, block, 2, generator(2, "item", block)
        )
        for start, pair in zip(windows.first_voxels(block), draws.numpy(), strict=True):
            row = np.zeros(3)
            for draw in pair:
                whole = x.copy()
                whole[(slice(None), *(slice(s, s + k) for s in start))] = draw.reshape(1, k, k, k)
                row += (nodes(whole[:, slab]) - intact) / 2
            rows.append(row)
    expected = np.stack(rows, axis=1)
    scale = np.abs(expected).max(axis=1, keepdims=True)
    for engine in (dense, ours):
        changes = [engine.expectations(x[None], ["item"], block).change[0] for block in chosen]
        found = np.concatenate([one.reshape(3, -1) for one in changes], axis=1)
        assert (np.abs(found - expected) / scale).max() < 1e-4
    assert ours.network is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
@pytest.mark.parametrize("photograph", ["n02123045_tabby.jpg", "n01855672_goose.jpg"])
def test_real_weights_and_photographs(name: str, photograph: str) -> None:
    given = os.environ.get("PREDDIFF_TEST_IMAGENET")
    if not given:
        pytest.skip("PREDDIFF_TEST_IMAGENET does not name a folder with real photographs")
    folder = Path(given)
    module = torchvision.build(name, 1000)
    load_state_dict(module, read_state_dict(folder / f"{name}.pth"), name)
    picture = read_image(folder / "explain" / photograph, resize=256, crop=224)
    x = (picture.pixels[None] / 255).astype(np.float32)
    usual = Standardisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = Standardisation((0.5,) * 3, (0.5,) * 3)
    standardisation = half if name == "mobilenet_v2" else usual
    classes = tuple(map(str, range(1000)))
    network = Network(prepared(module), {}, classes, 1_281_167, x.shape[2:], standardisation)
    top = network.logits(torch.from_numpy(x))[0].topk(3).indices.tolist()
    targets = ("probability:top-1", "probability:top-2", "logit:top-3", "map:features.7:5")
    readout = Readout(tuple(Target.parse(text) for text in targets))
    gaussian = PatchGaussian.fit(x, 14, patches=5000)
    windows = Windows(network.space, 10, stride=2)
    dense, ours = (
        kind(
            NetworkNodes(network, readout, {"item": [*top, -1]}),
            Conditional(gaussian, (0.0, 1.0)),
            windows,
            samples=3,
            seed=1,
            standardisation=standardisation,
        )
        for kind in (Dense, Incremental)
    )
    last = windows.shape[0]
    corner = (slice(0, 1), slice(0, 60))
    border = (slice(last - 1, last), slice(last - 60, last))
    inside = (slice(53, 55), slice(40, 70))
    evidence: list[list[np.ndarray]] = []
    for slices in (corner, border, inside):
        block = Box(0, slices)
        both = [engine.expectations(x, ["item"], block) for engine in (dense, ours)]
        np.testing.assert_allclose(both[1].mean, both[0].mean, rtol=1e-5, atol=1e-9)
        evidence.append([evidence_of(found, readout.targets) for found in both])
    assert ours.network is not None and not ours.network.whole_map_operations
    expected, found = (np.concatenate(parts, axis=1) for parts in zip(*evidence, strict=True))
    largest = np.abs(expected).max(axis=1)
    assert (np.abs(found - expected).max(axis=1) < 1e-4 * largest).all()


def evidence_of(found: Expectations, targets: tuple[Target, ...]) -> np.ndarray:
    """Evidence (targets, windows) of one item."""
    return np.stack(
        [
            weight_of_evidence(found.reference[0, row], found.change[0, row], 1_281_167, 1000)
            if target.kind == "probability"
            else -found.change[0, row]
            for row, target in enumerate(targets)
        ]
    ).reshape(len(targets), -1)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.isfinite().all() else x


class Lying(nn.ReLU):
    """Looks at all positions, though its parent class does not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x.amax((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Untraceable(), "torch.fx cannot trace the network"),
        (nn.Sequential(Lying(), *small_network()), "from amax (amax) on, whole maps are computed"),
    ],
)
def test_other_networks_are_evaluated_densely_and_that_is_said_once(
    module: nn.Module, message: str, capsys
) -> None:
    dense, ours = engines(module, TARGETS[:2])
    for block in dense.windows.blocks(60):
        expected = dense.expectations(images()[:1], ["item 0"], block)
        found = ours.expectations(images()[:1], ["item 0"], block)
        np.testing.assert_allclose(found.change, expected.change, atol=2e-6)
    assert capsys.readouterr().err.count(message) == 1


class ByName(nn.Module):
    """A small network that joins two paths by a call with named arguments."""

    def __init__(self, join: str) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.join = join
        self.paths = nn.ModuleList(nn.Conv2d(3, 6, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(12 if join == "cat" else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (path(x) for path in self.paths)
        if self.join == "cat":
            y = torch.cat(tensors=[first, second], dim=1)
        else:
            y = torch.add(input=first, other=second)
        return self.head(torch.relu(y).mean((2, 3)))


@pytest.mark.parametrize("join", ["cat", "add"])
def test_calls_with_named_arguments_are_recomputed_in_part(join: str) -> None:
    dense, ours = engines(ByName(join), TARGETS[:2])
    block = next(iter(dense.windows.blocks(30)))
    expected, found = (e.expectations(images()[:1], ["item 0"], block) for e in (dense, ours))
    assert ours.network is not None and not ours.network.whole_map_operations
    scale = np.abs(expected.change).max(axis=(2, 3), keepdims=True)
    assert (np.abs(found.change - expected.change) / scale).max() < 1e-4


@pytest.mark.parametrize("after_convolution", [True, False])
def test_normalisation_by_statistics_of_the_batch_is_done_densely(
    after_convolution: bool, capsys
) -> None:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    first, _, *others = small_network()
    layers = [first, norm, *others] if after_convolution else [first, nn.ReLU(), norm, *others]
    dense, ours = engines(nn.Sequential(*layers), TARGETS[:2], batch_size=8)
    block = next(iter(dense.windows.blocks(30)))
    expected, found = (e.expectations(images()[:1], ["item 0"], block) for e in (dense, ours))
    np.testing.assert_array_equal(found.change, expected.change)
    message = capsys.readouterr().err
    number = 1 if after_convolution else 2
    assert f"evaluated densely: module '{number}' normalises by statistics of the batch" in message


@pytest.mark.parametrize("table", [convolutions.CONVOLUTIONS, pooling.MAX_POOLS])
def test_any_failure_of_an_operation_leads_to_whole_passes(table, monkeypatch, capsys) -> None:
    def fail(*args: object) -> Tensor:
        raise IndexError("no such unit\nand more")

    for module in table:
        monkeypatch.setitem(table, module, fail)
    dense, ours = engines(small_network())
    block = next(iter(dense.windows.blocks(30)))
    expected, found = (e.expectations(images()[:1], ["item 0"], block) for e in (dense, ours))
    np.testing.assert_array_equal(found.change, expected.change)
    message = "densely: its operations fail if they are evaluated one by one (IndexError: no such "
    assert f"{message}unit)\n" in capsys.readouterr().err


def test_too_little_memory_for_the_trial_is_said(monkeypatch, capsys) -> None:
    def outputs(self: object, *args: object) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(IncrementalNetwork, "outputs", outputs)
    _, ours = engines(small_network())
    with pytest.raises(InputError, match="item 'item 0': not enough memory"):
        ours.expectations(images()[:1], ["item 0"], ours.windows.everything)


def test_a_wrong_operation_is_noticed(monkeypatch, capsys) -> None:
    convolve = F.conv2d
    wrong = {nn.Conv2d: lambda *args: convolve(*args) * 1.01}
    monkeypatch.setattr(convolutions, "CONVOLUTIONS", wrong)
    dense, ours = engines(small_network())
    block = next(iter(dense.windows.blocks(30)))
    expected = dense.expectations(images()[:1], ["item 0"], block)
    found = ours.expectations(images()[:1], ["item 0"], block)
    np.testing.assert_array_equal(found.change, expected.change)
    assert "recomputing changes only gave other results" in capsys.readouterr().err
