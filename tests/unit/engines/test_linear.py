"""The linear engines: what they refuse, and what they ask of samplers."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.nuisance import Nuisance
from preddiff.engines import linear
from preddiff.engines.base import Engine
from preddiff.engines.dense import Dense
from preddiff.engines.linear import Exact, Samples
from preddiff.errors import InputError
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler
from preddiff.samplers.exact_form import window_sums
from preddiff.samplers.grey import Grey
from preddiff.samplers.marginal import Marginal
from preddiff.targets import Target
from preddiff.windows import Block, Windows
from tests.conftest import fitted, smooth
from tests.unit.datasets.stores import write_store

SHAPE = (1, 7, 6)
WINDOWS = Windows(SHAPE[1:], 2)
TARGETS = [Target("probability", "yes"), Target("logit", "no")]
ITEMS = smooth(np.random.default_rng(1), (30, *SHAPE))
NAMES = [f"item {n}" for n in range(len(ITEMS))]


def classifier() -> LinearClassifier:
    weights = np.random.default_rng(2).normal(size=SHAPE) * 0.4
    return LinearClassifier(weights, 0.3, ("no", "yes"), 40, (0, 0))


def samplers() -> dict[str, Sampler]:
    return {
        "conditional": Conditional(fitted(ITEMS, 4)),
        "marginal": Marginal(ITEMS, NAMES),
        "grey": Grey(0.25),
    }


def engines(sampler: Sampler) -> dict[str, Engine]:
    return {
        "exact": Exact(classifier(), sampler, WINDOWS, TARGETS),
        "samples": Samples(classifier(), sampler, WINDOWS, TARGETS, 4, 5),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("engine", ["exact", "samples"])
@pytest.mark.parametrize("sampler", ["conditional", "marginal", "grey"])
def test_results_that_are_not_finite_are_refused(sampler: str, engine: str, value: float) -> None:
    x = ITEMS[:3].copy()
    x[1, 0, 3, 3] = value
    one = engines(samplers()[sampler])[engine]
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=r"'item 1'.* not finite"):
        one.expectations(x, NAMES[:3], WINDOWS.everything)


class Noise:
    """A user's sampler: independent normal noise in place of a window."""

    random = True

    def draw(
        self,
        x: Tensor,
        item: str,
        windows: Windows,
        block: Block,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        size = (block.size, samples, len(x) * windows.k ** (x.ndim - 1))
        return 0.2 + 0.5 * torch.randn(size, generator=generator)


class NormalNoise(Noise):
    """The same, which also knows its exact form."""

    def normal_shift(self, weights: np.ndarray, windows: Windows, block: Block):
        own = window_sums(weights, windows, block)
        offset = 0.2 * own.sum(axis=1)
        return -own, offset, 0.5 * np.sqrt((own * own).sum(axis=1))


def test_a_sampler_without_an_exact_form_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="Noise has no exact form: set the estimator to samples"):
        Exact(classifier(), Noise(), WINDOWS, TARGETS)


def test_clipped_draws_have_no_exact_form() -> None:
    clipped = Conditional(fitted(ITEMS, 4), (0.0, 1.0))
    engine = Exact(classifier(), clipped, WINDOWS, TARGETS)
    with pytest.raises(InputError, match="clipped draws have no exact form"):
        engine.expectations(ITEMS[:1], NAMES[:1], WINDOWS.everything)


def test_any_sampler_may_bring_its_exact_form() -> None:
    exact = Exact(classifier(), NormalNoise(), WINDOWS, TARGETS)
    drawn = Samples(classifier(), NormalNoise(), WINDOWS, TARGETS, 20_000, 5)
    found, many = (
        engine.expectations(ITEMS[:1], NAMES[:1], WINDOWS.everything) for engine in (exact, drawn)
    )
    assert (np.abs(found.change - many.change) < 5 * np.sqrt(many.variance / 20_000)).all()
    assert found.variance == pytest.approx(many.variance, rel=0.1)


@pytest.mark.parametrize("memory", [1, 5000])
def test_sums_of_many_donors_are_taken_in_parts(memory: int, monkeypatch) -> None:
    engine = engines(samplers()["marginal"])["exact"]
    expected = engine.expectations(ITEMS[:2], NAMES[:2], WINDOWS.everything)
    monkeypatch.setattr(linear, "_SUMS_IN_MEMORY", memory)
    done: list[float] = []
    found = engine.expectations(ITEMS[:2], NAMES[:2], WINDOWS.everything, done.append)
    assert len(done) > 1 and sum(done) == 2 * WINDOWS.everything.size
    for name in ("reference", "change", "variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)


def test_donors_may_be_stored_in_other_units() -> None:
    stored = np.round((ITEMS - ITEMS.min()) / np.ptp(ITEMS) * 255).astype(np.uint8)
    by_scale, plain = (
        Exact(classifier(), sampler, WINDOWS, TARGETS).expectations(
            ITEMS[:2], NAMES[:2], WINDOWS.everything
        )
        for sampler in (Marginal(stored, NAMES, 0.25), Marginal(stored / 4, NAMES))
    )
    assert by_scale.change == pytest.approx(plain.change, abs=1e-12)
    assert by_scale.variance == pytest.approx(plain.variance, abs=1e-12)


# More outputs, and outputs that are not logits.

THREE = LinearClassifier(
    np.random.default_rng(3).normal(size=(3, *SHAPE)) * 0.4,
    np.array([0.3, -0.2, 0.1]),
    ("a", "b", "c"),
    40,
    (0, 0),
)
# Decision values of a support vector machine, and a regression of age, in years.
DECISION = replace(classifier(), has_probabilities=False)
AGE = LinearClassifier(
    np.random.default_rng(4).normal(size=SHAPE) * 90, 60.0, ("age",), 40, (0, 0), False
)
DRAWS = 100_000


def every_target(one: LinearClassifier, *kinds: str) -> list[Target]:
    return [Target.parse(f"{kind}:{name}") for kind in kinds for name in one.classes]


@pytest.mark.parametrize("name", ["conditional", "marginal", "grey"])
@pytest.mark.parametrize(
    ("one", "kind"),
    [(THREE, "logit"), (DECISION, "value"), (AGE, "value")],
    ids=["3", "svm", "age"],
)
def test_exact_outputs_are_the_limit_of_100_000_draws(
    one: LinearClassifier, kind: str, name: str
) -> None:
    sampler, targets = samplers()[name], every_target(one, kind)
    exact = Exact(one, sampler, WINDOWS, targets)
    drawn = Samples(one, sampler, WINDOWS, targets, DRAWS, 5)
    for block in list(WINDOWS.blocks(6))[:3]:
        found = exact.expectations(ITEMS[:2], NAMES[:2], block)
        many = drawn.expectations(ITEMS[:2], NAMES[:2], block)
        assert found.reference == pytest.approx(many.reference)
        scale = np.abs(many.change).max()
        error = np.sqrt(many.variance / DRAWS) + 1e-6 * scale
        assert (np.abs(found.change - many.change) < 4.5 * error).all()
        assert found.variance == pytest.approx(many.variance, rel=0.05, abs=1e-9 * scale**2)


def test_expectations_of_values_are_linear_in_the_conditional_mean() -> None:
    """In closed form: w . (E[x_w] - x_w), and w C w of the conditional normal distribution."""
    l, k = 4, 2
    gaussian = fitted(ITEMS, l)
    found = Exact(AGE, Conditional(gaussian), WINDOWS, every_target(AGE, "value")).expectations(
        ITEMS[:1], NAMES[:1], WINDOWS.everything
    )
    mean, covariance = gaussian.mean.astype(float), gaussian.covariance.astype(float)
    # A window in the middle, with one pixel of surroundings on each side.
    x, y = 2, 1
    corner = (x - 1, y - 1)
    patch = ITEMS[0, 0, corner[0] : corner[0] + l, corner[1] : corner[1] + l].astype(float)
    weights = AGE.weights[0, corner[0] : corner[0] + l, corner[1] : corner[1] + l]
    inside = np.zeros((l, l), dtype=bool)
    inside[1 : 1 + k, 1 : 1 + k] = True
    i, o = np.flatnonzero(inside), np.flatnonzero(~inside)
    gain = covariance[np.ix_(i, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    expected = mean[i] + gain @ (patch.reshape(-1)[o] - mean[o])
    own = weights.reshape(-1)[i]
    change = own @ (expected - patch.reshape(-1)[i])
    variance = own @ (covariance[np.ix_(i, i)] - gain @ covariance[np.ix_(o, i)]) @ own
    assert found.change[0, 0, x, y] == pytest.approx(change, rel=1e-5)
    assert found.variance[0, 0, x, y] == pytest.approx(variance, rel=1e-4)


@pytest.mark.parametrize("name", ["conditional", "marginal", "grey"])
def test_draws_of_more_classes_are_those_of_the_dense_engine(name: str) -> None:
    sampler, targets = samplers()[name], every_target(THREE, "probability", "logit")
    weights = torch.from_numpy(THREE.maps.reshape(3, -1))

    def nodes(batch: torch.Tensor, item: str) -> torch.Tensor:
        logits = batch.double().flatten(1) @ weights.T + torch.from_numpy(THREE.intercepts)
        return torch.cat([torch.softmax(logits, 1), logits], dim=1)

    one = Dense(nodes, sampler, WINDOWS, 4, 5)
    other = Samples(THREE, sampler, WINDOWS, targets, 4, 5)
    for block in WINDOWS.blocks(11):
        expected = one.expectations(ITEMS[:2], NAMES[:2], block)
        found = other.expectations(ITEMS[:2], NAMES[:2], block)
        assert found.reference == pytest.approx(expected.reference, abs=1e-9)
        assert found.change == pytest.approx(expected.change, abs=1e-5)
        assert found.variance == pytest.approx(expected.variance, abs=1e-5)


def test_a_single_target_has_the_same_draws_as_among_others() -> None:
    sampler, targets = samplers()["conditional"], every_target(THREE, "probability", "logit")
    together = Samples(THREE, sampler, WINDOWS, targets, 4, 5)
    expected = together.expectations(ITEMS[:1], NAMES[:1], WINDOWS.everything)
    for number, target in enumerate(targets):
        alone = Samples(THREE, sampler, WINDOWS, [target], 4, 5)
        found = alone.expectations(ITEMS[:1], NAMES[:1], WINDOWS.everything)
        assert np.array_equal(found.change[:, 0], expected.change[:, number])


def test_probabilities_of_more_classes_have_no_exact_expectation() -> None:
    with pytest.raises(
        InputError, match=r"'probability:a' has no exact .*: explain logit:a, or set"
    ):
        Exact(THREE, samplers()["grey"], WINDOWS, every_target(THREE, "logit", "probability")[:5])


@pytest.mark.parametrize("memory", [1, 6, 20])
def test_operators_of_several_outputs_are_made_in_parts(memory: int, monkeypatch) -> None:
    engine = Exact(THREE, samplers()["conditional"], WINDOWS, every_target(THREE, "logit"))
    expected = engine.expectations(ITEMS[:2], NAMES[:2], WINDOWS.everything)
    monkeypatch.setattr(linear, "_WINDOWS_IN_MEMORY", memory)
    found = engine.expectations(ITEMS[:2], NAMES[:2], WINDOWS.everything)
    for name in ("reference", "change", "variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)


def test_nuisance_variables_change_evidence_through_the_reference(tmp_path) -> None:
    """As an intercept of the item's own would."""
    nuisance = Nuisance(("age",), ("age",), np.array([[0.25]]))
    store = write_store(
        tmp_path / "d.zarr", ITEMS, nuisance=(["age"], np.arange(30.0)[:, None] - 10)
    )
    names = store.names[4:6]
    one = replace(classifier(), nuisance=nuisance).for_items(store)
    for sampler in samplers().values():
        for make in (Exact, partial(Samples, samples=4, seed=5)):
            found = make(one, sampler, WINDOWS, TARGETS).expectations(
                ITEMS[4:6], names, WINDOWS.everything
            )
            for row, added in enumerate((-6 * 0.25, -5 * 0.25)):
                alone = replace(classifier(), intercept=0.3 + added)
                expected = make(alone, sampler, WINDOWS, TARGETS).expectations(
                    ITEMS[4 + row : 5 + row], names[row : row + 1], WINDOWS.everything
                )
                assert found.reference[row] == pytest.approx(expected.reference[0])
                assert found.change[row] == pytest.approx(expected.change[0], abs=1e-12)
