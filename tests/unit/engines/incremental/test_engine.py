"""The incremental engine against whole forward passes, on networks of many kinds."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import models

from preddiff.classifiers import torchvision
from preddiff.classifiers.checkpoint import load_state_dict, read_state_dict
from preddiff.classifiers.layers import OUTPUT, WithMeans, traced
from preddiff.classifiers.network import Network, NetworkNodes, prepared
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.datasets.images import read_image
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.boxes import Boxes
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.incremental.network import IncrementalNetwork
from preddiff.evidence import Expectations, weight_of_evidence
from preddiff.samplers.base import window_voxels
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.gaussian import PatchGaussian
from preddiff.targets import Target
from preddiff.windows import Block, Windows
from tests.conftest import smooth

DRAWS = 2


def randomised(network: nn.Module) -> nn.Module:
    """Statistics of batch normalisation that are not those of a new network, in float64."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for values in (module.running_mean, module.bias):
                values.data.normal_(0, 0.3, generator=generator)
            for values in (module.running_var, module.weight):
                values.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval().double().requires_grad_(False)


@torch.inference_mode()
def require_equal(
    network: nn.Module, space: tuple[int, ...], k: int, starts: np.ndarray, layers: tuple = ()
) -> IncrementalNetwork:
    """Compare all outputs for redrawn windows with those of whole passes, in float64."""
    whole = WithMeans(copy.deepcopy(network), layers)
    ours = IncrementalNetwork(traced(network, layers))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((1, 3, *space), generator=generator, dtype=torch.float64)
    side = (k,) * len(space)
    values = torch.randn((len(starts) * DRAWS, 3, *side), generator=generator, dtype=torch.float64)
    variants = x.repeat(len(values), *[1] * (len(space) + 1))
    for row, value in enumerate(values):
        place = tuple(slice(a, a + k) for a in starts[row // DRAWS])
        variants[(row, slice(None), *place)] = value
    expected, means = whole(variants.clone())
    layout = torch.channels_last if len(space) == 2 else torch.channels_last_3d
    found = ours.outputs(
        ours.intact(x.contiguous(memory_format=layout)),
        values.contiguous(memory_format=layout),
        Boxes(starts, side),
    )
    torch.testing.assert_close(found[OUTPUT], expected, rtol=1e-9, atol=1e-10)
    for layer in layers:
        torch.testing.assert_close(found[layer], means[layer], rtol=1e-9, atol=1e-10)
    return ours


def places(space: tuple[int, ...], k: int) -> np.ndarray:
    """Corners, borders and the inside of an input."""
    last = [n - k for n in space]
    fixed = [[0] * len(space), last, [n // 2 for n in last], [0, *last[1:]], [3, *last[1:]]]
    return np.array([*fixed, [n // 3 for n in last], [n // 3 + 1 for n in last]])


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("alexnet", ("features.0", "features.5")),
        ("densenet121", ("features.denseblock1",)),
        ("googlenet", ("inception3b", "inception5b.branch1.conv")),
        ("mobilenet_v3_small", ()),
        ("mobilenet_v2", ("features.1", "features.17")),
        ("resnet18", ("layer1.0.relu", "layer4")),
        ("shufflenet_v2_x0_5", ()),
        ("squeezenet1_1", ("features.3",)),
        ("vgg11", ("features.0", "features.20")),
    ],
)
def test_networks_of_torchvision(name: str, layers: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    network = randomised(models.get_model(name, weights=None, num_classes=7, **options))
    space, k = (75, 68), 6
    ours = require_equal(network, space, k, places(space, k), layers)
    everything_known = name not in ("mobilenet_v3_small", "shufflenet_v2_x0_5")
    assert bool(ours.whole_from) != everything_known


class Branches(nn.Module):
    """Paths side by side, joined by adding or concatenating them."""

    def __init__(self, paths: list[nn.Module], join: str) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        found = [path(x) for path in self.paths]
        if self.join == "cat":
            return torch.cat([x, *found], dim=1)
        for part in found:
            x = x + part
        return x


@st.composite
def layers_of_any_kind(draw, channels: int, dimensions: int, depth: int = 0) -> nn.Module:
    conv, batch_norm, max_pool, average_pool = (
        (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)
        if dimensions == 2
        else (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d)
    )
    kind = draw(st.sampled_from(["conv", "norm", "relu", "max", "average", "branches"]))
    k, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    ceil = draw(st.booleans())
    if kind == "conv":
        groups = draw(st.sampled_from([1, channels]))
        padding = draw(st.integers(0, 3))
        return conv(channels, channels, k, s, padding, d, groups, bias=draw(st.booleans()))
    if kind == "norm":
        return batch_norm(channels)
    if kind == "max":
        return max_pool(k, s, draw(st.integers(0, k // 2)), d, ceil_mode=ceil)
    if kind == "average":
        padding = draw(st.integers(0, k // 2))
        return average_pool(k, s, padding, ceil, draw(st.booleans()))
    if kind == "branches" and depth == 0:
        paths = [
            nn.Sequential(conv(channels, channels, 2 * reach + 1, 1, reach), nn.ReLU(inplace=True))
            for reach in draw(st.lists(st.integers(0, 2), min_size=1, max_size=2))
        ]
        return Branches(paths, draw(st.sampled_from(["add", "cat"])))
    return draw(st.sampled_from([nn.ReLU(inplace=True), nn.Hardswish(), nn.LeakyReLU(0.2)]))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from([2, 2, 2, 3]))
def test_random_networks(data, dimensions: int) -> None:
    torch.manual_seed(data.draw(st.integers(0, 5)))
    space = tuple(
        data.draw(st.integers(9, 14 if dimensions == 3 else 24)) for _ in range(dimensions)
    )
    layers: list[nn.Module] = []
    x = torch.zeros((2, 3, *space))
    for _ in range(data.draw(st.integers(1, 5))):
        layer = data.draw(layers_of_any_kind(x.shape[1], dimensions))
        try:
            x = layer.eval()(x)
        except RuntimeError:
            # The maps have become too small for this layer.
            assume(False)
        layers.append(layer)
    if data.draw(st.booleans()):
        layers.append(nn.AdaptiveAvgPool2d(1) if dimensions == 2 else nn.AdaptiveAvgPool3d(1))
        x = x.mean(tuple(range(2, x.ndim)))
    layers += [nn.Flatten(), nn.Linear(x[0].numel(), 4)]
    network = randomised(nn.Sequential(*layers))
    k = data.draw(st.integers(1, 5))
    starts = np.array(
        [
            [data.draw(st.integers(0, n - k)) for n in space]
            for _ in range(data.draw(st.integers(1, 4)))
        ]
    )
    watched = ("0",) if not isinstance(layers[0], nn.Flatten) else ()
    require_equal(network, space, k, starts, watched)


def test_several_normalisations_fold_into_one_convolution() -> None:
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4) for _ in range(3)]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.Flatten(), nn.Linear(400, 2))
    ours = require_equal(randomised(network), (12, 12), 3, places((12, 12), 3))
    assert sum(node.op == "call_module" for node in ours.nodes) == 3


class Written(nn.Module):
    """Operations that are written as functions and methods, some of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 0.7))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        y = self.second(x)
        y.add_(x)
        y.clamp_(min=-0.5)
        x = F.max_pool2d(y, 2) + F.avg_pool2d(y, 2, ceil_mode=False)
        x = F.dropout(x.sigmoid() * 2 - 1, training=self.training)
        x = F.interpolate(x * self.scale, scale_factor=2)
        return self.head(torch.cat([x.mean((2, 3)), F.adaptive_avg_pool2d(x, 1).flatten(1)], 1))


def test_functions_methods_and_operations_in_place() -> None:
    torch.manual_seed(0)
    network = randomised(Written())
    ours = require_equal(network, (20, 22), 4, places((20, 22), 4))
    assert ours.whole_from


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x, _ = self.attention(x, x, x)
        return self.head(x.mean(1))


def test_attention_is_computed_on_whole_maps() -> None:
    torch.manual_seed(0)
    require_equal(randomised(Attention()), (16, 24), 3, places((16, 24), 3))


# The engine, in float32 and with draws.

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
    assert ours.network is not None and not ours.network.whole_from
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
    assert "out of memory: going on with" in capsys.readouterr().err


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
        block = Block(0, slices)
        both = [engine.expectations(x, ["item"], block) for engine in (dense, ours)]
        np.testing.assert_allclose(both[1].mean, both[0].mean, rtol=1e-5, atol=1e-9)
        evidence.append([evidence_of(found, readout.targets) for found in both])
    assert ours.network is not None and not ours.network.whole_from
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


def test_a_wrong_operation_is_noticed(monkeypatch, capsys) -> None:
    convolve = F.conv2d
    monkeypatch.setitem(
        __import__(
            "preddiff.engines.incremental.operations"
        ).engines.incremental.operations._CONVOLUTIONS,
        nn.Conv2d,
        lambda *args: convolve(*args) * 1.01,
    )
    dense, ours = engines(small_network())
    block = next(iter(dense.windows.blocks(30)))
    expected = dense.expectations(images()[:1], ["item 0"], block)
    found = ours.expectations(images()[:1], ["item 0"], block)
    np.testing.assert_array_equal(found.change, expected.change)
    assert "recomputing changes only gave other results" in capsys.readouterr().err
