"""Algorithm 1 of the paper written literally, against the engines, on the same draws."""

import numpy as np
import pytest
import torch

from preddiff.api import explain
from preddiff.classifiers.linear import LinearClassifier
from preddiff.engines.dense import Dense
from preddiff.engines.linear import Exact, Samples
from preddiff.evidence import relevance, standard_error, weight_of_evidence
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler, generator
from preddiff.samplers.gaussian import Grid, LocatedPatchGaussian
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Windows
from tests.conftest import fitted, smooth

CASES = [((1, 7, 6), 2, 4, 1), ((3, 6, 6), 2, 4, 2), ((1, 5, 6, 5), 2, 4, 1)]
N, S, SEED = 40, 4, 5


def algorithm_1(x, classify, draws, k, starts, n, classes):
    """Zintgraf et al. 2017, Algorithm 1, in nested loops; `draws[window][sample]` fill windows."""
    import itertools

    def odds(p):
        p = (p * n + 1) / (n + classes)
        return p / (1 - p)

    we, counts = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for number, start in enumerate(itertools.product(*starts)):
        window = tuple(slice(s, s + k) for s in start)
        total = 0.0
        for sample in draws[number]:
            redrawn = x.copy()
            redrawn[(slice(None), *window)] = sample.reshape(len(x), *(k,) * (x.ndim - 1))
            total += classify(redrawn)
        mean = total / len(draws[number])
        we[window] += np.log2(odds(classify(x))) - np.log2(odds(mean))
        counts[window] += 1
    return we / counts


def items_of(shape: tuple[int, ...]) -> np.ndarray:
    return smooth(np.random.default_rng(1), (30, *shape))


def network(shape: tuple[int, ...]) -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 8), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, 3), torch.nn.Softmax(1)).eval()


def linear_classifier(shape: tuple[int, ...]) -> LinearClassifier:
    weights = np.random.default_rng(2).normal(size=shape) * 0.4
    return LinearClassifier(weights, 0.3, ("no", "yes"), N, (0,) * (len(shape) - 1))


def samplers(items: np.ndarray, l: int) -> dict[str, Sampler]:
    space = items.shape[2:]
    gaussian = fitted(items, l)
    other = fitted(items * 2 + 1, l)
    grid = Grid(space, (2,) * len(space))
    cells = {c: (g.mean, g.covariance) for c, g in enumerate([gaussian, other] * 4)}
    located = LocatedPatchGaussian(grid, cells, l, items.shape[1], (0,) * len(space))
    return {
        "conditional": Conditional(gaussian),
        "location": Conditional(located),
        "marginal": Marginal(items, [f"item {n}" for n in range(len(items))]),
        "grey": Grey(0.25),
    }


@pytest.mark.parametrize("name", ["conditional", "location", "marginal", "grey"])
@pytest.mark.parametrize(("shape", "k", "l", "stride"), CASES)
def test_dense_engine_is_algorithm_1(shape, k, l, stride, name) -> None:
    items = items_of(shape)
    x, sampler, net = items[0], samplers(items, l)[name], network(shape)
    windows = Windows(shape[1:], k, stride)
    block = windows.everything
    draws = sampler.draw(
        torch.from_numpy(x), "item 0", windows, block, S, generator(SEED, "item 0", block)
    ).numpy()

    def classify(one: np.ndarray) -> float:
        with torch.no_grad():
            return float(net(torch.from_numpy(one[None]))[0, 2])

    expected = algorithm_1(x, classify, draws, k, windows.starts, N, 3)
    engine = Dense(lambda batch, item: net(batch)[:, [2]], sampler, windows, S, SEED, batch_size=7)
    found = engine.expectations(x[None], ["item 0"], block)
    evidence = weight_of_evidence(found.reference[0, 0], found.change[0, 0], N, 3)
    assert relevance(evidence, windows) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["conditional", "location", "marginal", "grey"])
@pytest.mark.parametrize(("shape", "k", "l", "stride"), CASES)
def test_linear_samples_are_those_of_the_dense_engine(shape, k, l, stride, name) -> None:
    items = items_of(shape)
    sampler, linear = samplers(items, l)[name], linear_classifier(shape)
    windows = Windows(shape[1:], k, stride)
    targets = [Target.parse(t) for t in ("probability:yes", "logit:yes", "logit:no")]

    def nodes(batch: torch.Tensor, item: str) -> torch.Tensor:
        logit = torch.from_numpy(linear.logit(batch.numpy()))
        return torch.stack([torch.sigmoid(logit), logit, -logit], dim=1)

    one = Dense(nodes, sampler, windows, S, SEED)
    other = Samples(linear, sampler, windows, targets, S, SEED)
    for block in windows.blocks(11):
        expected = one.expectations(items[:2], ["item 0", "item 1"], block)
        found = other.expectations(items[:2], ["item 0", "item 1"], block)
        assert found.reference == pytest.approx(expected.reference, abs=1e-9)
        assert found.change == pytest.approx(expected.change, abs=1e-5)
        assert found.variance == pytest.approx(expected.variance, abs=1e-5)


@pytest.mark.parametrize("name", ["conditional", "location", "marginal", "grey"])
@pytest.mark.parametrize(("shape", "k", "l", "stride"), CASES[::2])
def test_exact_is_the_limit_of_100_000_draws(shape, k, l, stride, name) -> None:
    items = items_of(shape)
    sampler, linear = samplers(items, l)[name], linear_classifier(shape)
    windows = Windows(shape[1:], k, stride)
    targets = [Target.parse(t) for t in ("probability:yes", "logit:yes")]
    exact = Exact(linear, sampler, windows, targets)
    drawn = Samples(linear, sampler, windows, targets, 100_000, SEED)
    for block in list(windows.blocks(6))[:3]:
        found = exact.expectations(items[:1], ["item 0"], block)
        many = drawn.expectations(items[:1], ["item 0"], block)
        error = np.sqrt(many.variance / 100_000) + 1e-6
        assert (np.abs(found.change - many.change) < 4 * error).all()
        # The logit's variance only: where the sigmoid saturates, draws too rare for a sample
        # make the variance of the probability.
        assert found.variance[0, 1] == pytest.approx(many.variance[0, 1], rel=0.05, abs=1e-12)


def test_draws_have_the_stated_mean_and_covariance() -> None:
    items = items_of((1, 7, 6))
    gaussian = fitted(items, 4)
    windows = Windows((7, 6), 2)
    x = torch.from_numpy(items[0])
    block = windows.everything
    draws = (
        Conditional(gaussian)
        .draw(x, "item 0", windows, block, 20_000, generator(0, "item 0", block))
        .double()
        .numpy()
    )
    # A corner, a border and an interior window: their surroundings by hand.
    for start, patch in [((0, 0), (0, 0)), ((0, 2), (0, 1)), ((2, 2), (1, 1)), ((5, 4), (3, 2))]:
        position = (start[0] - patch[0], start[1] - patch[1])
        stated = gaussian.conditional(0, 2, position)
        around = items[0][:, patch[0] : patch[0] + 4, patch[1] : patch[1] + 4].reshape(-1)
        mean = stated.weights @ around[~stated.inside] + stated.offset
        own = draws[start[0] * 5 + start[1]]
        error = np.sqrt(np.diag(stated.covariance) / 20_000)
        assert (np.abs(own.mean(axis=0) - mean) < 5 * error).all()
        assert np.allclose(np.cov(own.T), stated.covariance, atol=0.05 * stated.covariance.max())


def test_same_draws_for_any_batch_size_and_any_company() -> None:
    shape = (1, 7, 6)
    items = items_of(shape)
    sampler, linear = samplers(items, 4)["conditional"], linear_classifier(shape)
    windows = Windows(shape[1:], 2)
    targets = [Target("probability", "yes")]
    names = [f"item {n}" for n in range(5)]
    for engine in (
        Exact(linear, sampler, windows, targets),
        Samples(linear, sampler, windows, targets, S, SEED),
    ):
        together = engine.expectations(items[:5], names, windows.everything)
        for number in range(5):
            part = slice(number, number + 1)
            alone = engine.expectations(items[part], names[part], windows.everything)
            assert np.array_equal(alone.change[0], together.change[number])
            assert np.array_equal(alone.variance[0], together.variance[number])


def test_clipped_draws_stay_in_range() -> None:
    items = items_of((1, 7, 6))
    windows = Windows((7, 6), 2)
    sampler = Conditional(fitted(items, 4), clip=(-0.1, 0.2))
    block = windows.everything
    draws = sampler.draw(
        torch.from_numpy(items[0]), "a", windows, block, 5, generator(0, "a", block)
    )
    assert draws.min() >= -0.1 and draws.max() <= 0.2


def test_an_item_never_lends_to_itself() -> None:
    items = items_of((1, 7, 6))[:2]
    windows = Windows((7, 6), 2)
    block = windows.everything
    draws = Marginal(items, ["a", "b"]).draw(
        torch.from_numpy(items[0]), "a", windows, block, 3, generator(0, "a", block)
    )
    corner = items[1][0, :2, :2].reshape(-1)
    assert np.array_equal(draws[0].numpy(), np.stack([corner] * 3))


def test_standard_error_predicts_the_spread_over_seeds() -> None:
    shape = (1, 7, 6)
    items = items_of(shape)
    net, sampler = network(shape), samplers(items, 4)["conditional"]
    found = [
        explain(
            items[0],
            net,
            sampler,
            k=2,
            target=1,
            output="probabilities",
            training_size=N,
            samples=20,
            seed=seed,
            progress=False,
        )
        for seed in range(60)
    ]
    spread = np.std([one.relevance for one in found], axis=0, ddof=1)
    stated = np.mean([one.stderr for one in found], axis=0)
    assert np.median(spread / stated) == pytest.approx(1, abs=0.1)


def test_a_linear_classifier_is_explained_exactly_by_the_python_interface() -> None:
    shape = (1, 5, 6, 5)
    items = items_of(shape)
    linear, sampler = linear_classifier(shape), samplers(items, 4)["conditional"]

    def logits(batch: np.ndarray) -> np.ndarray:
        return np.stack([-linear.logit(batch), linear.logit(batch)], axis=1)

    settings = {"k": 2, "target": 1, "output": "activations", "progress": False}
    exact = explain(items[0], linear, sampler, **settings)
    drawn = explain(items[0], logits, sampler, samples=400, **settings)
    assert not exact.stderr.any()
    error = np.abs(exact.relevance - drawn.relevance) / drawn.stderr
    assert np.quantile(error, 0.95) < 2.6


def test_relevance_error_adds_independent_windows_in_quadrature() -> None:
    windows = Windows((4, 4), 2)
    assert standard_error(np.ones(windows.shape), windows)[1, 1] == pytest.approx(0.5)
    assert standard_error(np.ones(windows.shape), windows)[0, 0] == pytest.approx(1)
