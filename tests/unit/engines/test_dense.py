"""The dense engine on networks: batches, memory, hidden layers, channels, faults."""

import numpy as np
import pytest
import torch
from torch import nn

from preddiff.classifiers.network import Network, prepared
from preddiff.classifiers.network_nodes import NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.standardisation import Standardisation
from preddiff.engines.dense import Dense
from preddiff.errors import InputError
from preddiff.methods.sensitivity import sensitivity
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import generator, window_voxels
from preddiff.samplers.gaussian import Moments, PatchGaussian, condition, patches_at
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Windows, inside
from tests.conftest import smooth

K, L, S, SEED = 3, 5, 4, 2
SPACE = (9, 8)
TARGETS = ("probability:0", "logit:2", "map:0:1", "map:2:0")


def images(count: int = 20) -> np.ndarray:
    found = smooth(np.random.default_rng(1), (count, 3, *SPACE))
    return (found - found.min()) / np.ptp(found)


def network() -> Network:
    torch.manual_seed(4)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 2, 3),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    module(torch.zeros((1, 3, *SPACE)))
    standardisation = Standardisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Network(prepared(module), {}, ("a", "b", "c"), 50, SPACE, standardisation)


def sampler(name: str, x: np.ndarray):
    if name == "conditional":
        return Conditional(PatchGaussian.fit(x, L, patches=4000), (0.0, 1.0))
    if name == "marginal":
        stored = np.round(x * 255).astype(np.uint8)
        return Marginal(stored, [f"item {n}" for n in range(len(x))], 1 / 255)
    return Grey(0.5)


def engine(one: Network, source, batch_size: int | None = None) -> Dense:
    readout = Readout(tuple(Target.parse(text) for text in TARGETS))
    classes = {"item 0": [0, 2, -1, -1]}
    return Dense(
        NetworkNodes(one, readout, classes),
        source,
        Windows(SPACE, K),
        S,
        SEED,
        batch_size,
        standardisation=one.standardisation,
    )


@pytest.mark.parametrize("name", ["conditional", "marginal", "grey"])
def test_expectations_against_one_pass_at_a_time(name: str) -> None:
    """Activation differences of maps are averaged over their units one by one, as in the paper."""
    x, one = images(), network()
    source, windows = sampler(name, x), Windows(SPACE, K)
    block = list(windows.blocks(20))[1]
    found = engine(one, source).expectations(x[:1], ["item 0"], block)
    draws = source.draw(
        torch.from_numpy(x[0]), "item 0", windows, block, S, generator(SEED, "item 0", block)
    ).numpy()
    voxels = window_voxels(windows, block, 3)

    def units(values: np.ndarray) -> list[np.ndarray]:
        mean, std = (
            np.array(v)[:, None, None] for v in (one.standardisation.mean, one.standardisation.std)
        )
        inputs = torch.from_numpy(((values - mean) / std)[None]).float()
        with torch.no_grad():
            first = one.module[0](inputs)
            second = one.module[2](first.clamp(min=0))
            logits = one.module[4](second.flatten(1)).double()
        return [
            torch.softmax(logits, 1)[0, 0].numpy(),
            logits[0, 2].numpy(),
            first[0, 1].double().numpy(),
            second[0, 0].double().numpy(),
        ]

    intact = units(x[0])
    expected = np.empty((len(TARGETS), block.size))
    for window in range(block.size):
        total = [np.zeros_like(value) for value in intact]
        for draw in draws[window]:
            changed = x[0].copy().reshape(-1)
            changed[voxels[window]] = draw
            for node, value in enumerate(units(changed.reshape(x[0].shape))):
                total[node] = total[node] + value
        for node, value in enumerate(intact):
            expected[node, window] = np.mean(total[node] / len(draws[window]) - value)
    assert found.change[0].reshape(len(TARGETS), -1) == pytest.approx(expected, abs=2e-6)
    assert found.reference[0] == pytest.approx([np.mean(value) for value in intact], abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_batches_do_not_change_results(batch_size: int) -> None:
    x, one = images(), network()
    source, block = sampler("conditional", x), Windows(SPACE, K).everything
    expected = engine(one, source).expectations(x[:1], ["item 0"], block)
    found = engine(one, source, batch_size).expectations(x[:1], ["item 0"], block)
    assert found.change == pytest.approx(expected.change, abs=1e-6)
    assert found.variance == pytest.approx(expected.variance, abs=1e-6)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_batches_shrink_where_memory_ends(error: RuntimeError, capsys) -> None:
    x, one = images(), network()
    source, block = sampler("conditional", x), Windows(SPACE, K).everything
    expected = engine(one, source).expectations(x[:1], ["item 0"], block)
    limited = engine(one, source, 64)
    nodes = limited.nodes

    def small_memory(batch: torch.Tensor, item: str) -> torch.Tensor:
        if len(batch) > 10:
            raise error
        return nodes(batch, item)

    limited.nodes = small_memory
    found = limited.expectations(x[:1], ["item 0"], block)
    assert limited.batch_size == 8
    assert found.change == pytest.approx(expected.change, abs=1e-6)
    assert capsys.readouterr().err.count("out of memory") == 3


def test_memory_for_not_even_one_input_is_said(capsys) -> None:
    x, one = images(), network()
    dense = engine(one, sampler("grey", x), 4)
    nodes = dense.nodes

    def no_memory(batch: torch.Tensor, item: str) -> torch.Tensor:
        if done:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(item)
        return nodes(batch, item)

    done: list[str] = []
    dense.nodes = no_memory
    with pytest.raises(InputError, match="not enough memory for a single input"):
        dense.expectations(x[:1], ["item 0"], Windows(SPACE, K).everything)


def test_other_errors_of_a_network_are_not_taken_for_memory() -> None:
    x, one = images(), network()
    dense = engine(one, sampler("grey", x))

    def broken(batch: torch.Tensor, item: str) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    dense.nodes = broken
    with pytest.raises(RuntimeError, match="mat1"):
        dense.expectations(x[:1], ["item 0"], Windows(SPACE, K).everything)


def test_outputs_that_are_not_finite_are_refused() -> None:
    x, one = images(), network()
    dense = engine(one, sampler("conditional", x))
    nodes = dense.nodes
    dense.nodes = lambda batch, item: nodes(batch, item) / (len(batch) == 1)
    with pytest.raises(InputError, match="item 'item 0': the classifier's output is not finite"):
        dense.expectations(x[:1], ["item 0"], Windows(SPACE, K).everything)


def test_independent_channels_are_one_gaussian_for_each() -> None:
    x = images(50)
    generator = np.random.default_rng(3)
    starts = np.stack([generator.integers(0, n - L + 1, 4000) for n in SPACE], 1)
    patches = np.concatenate([patches_at(item, L, starts[:80]) for item in x])
    joint = PatchGaussian.from_moments(Moments.of(patches), L, 3, 0.0, independent_channels=True)
    found = joint.conditional(0, K, (1, 2))
    size, voxels = K * K, L * L
    for channel in range(3):
        own = patches[:, channel * voxels : (channel + 1) * voxels]
        expected = condition(own.mean(0), np.cov(own.T, bias=True), inside(K, L, (1, 2)))
        rows = slice(channel * size, (channel + 1) * size)
        others = voxels - size
        columns = slice(channel * others, (channel + 1) * others)
        assert found.weights[rows, columns] == pytest.approx(expected.weights, abs=1e-6)
        assert found.covariance[rows, rows] == pytest.approx(expected.covariance, abs=1e-9)
        assert found.offset[rows] == pytest.approx(expected.offset, abs=1e-6)
        rest = np.delete(found.weights[rows], np.arange(others) + channel * others, axis=1)
        assert np.abs(rest).max() < 1e-9


def test_filled_images_hold_the_mean_of_many_draws() -> None:
    x = images()
    source, windows = sampler("conditional", x), Windows(SPACE, K, K)
    free = Conditional(source.gaussian)
    image, block = torch.from_numpy(x[0]), windows.everything
    filled = free.fill(image, windows)
    draws = free.draw(image, "item 0", windows, block, 4000, generator(SEED, "item 0", block))
    voxels = window_voxels(windows, block, 3)
    # The last window of the grid overlaps others and is the one that counts.
    last = filled.reshape(-1)[torch.from_numpy(voxels[-1])]
    error = draws[-1].std(0) / np.sqrt(4000)
    assert ((draws[-1].mean(0) - last).abs() < 5 * error).all()
    clipped = source.fill(image, windows)
    assert torch.allclose(clipped, filled.clamp(0, 1))
    assert filled.shape == image.shape


def test_sensitivity_against_finite_differences() -> None:
    one = network()
    module = one.module.double()
    x = torch.from_numpy(images()[0]).double()
    values, maps = sensitivity(module, x)
    step = 1e-6
    with torch.no_grad():
        for target in range(3):
            for y, column in ((0, 0), (4, 3), (8, 7)):
                slopes = []
                for channel in range(3):
                    other = x.clone()
                    other[channel, y, column] += step
                    slopes.append(float((module(other[None])[0, target] - values[target]) / step))
                assert float(maps[target, y, column]) == pytest.approx(
                    max(map(abs, slopes)), abs=1e-5
                )
