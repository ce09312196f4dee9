"""The Python interface: what it refuses, and that it says why."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

import preddiff
from preddiff.classifiers.nuisance import Nuisance
from tests.conftest import fitted, smooth
from tests.unit.datasets.stores import write_store

ITEMS = smooth(np.random.default_rng(0), (20, 1, 6, 6))
GAUSSIAN = fitted(ITEMS, 4)
SETTINGS = {"k": 2, "target": 1, "training_size": 20, "progress": False}


def means(batch: np.ndarray) -> np.ndarray:
    return np.stack([batch.mean((1, 2, 3)), -batch.mean((1, 2, 3))], axis=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 2}, "puts out 2 numbers"),
        ({"target": [0, 2]}, "puts out 2 numbers"),
        ({"target": "10"}, "give a column, or several different ones"),
        ({"target": []}, "give a column, or several different ones"),
        ({"target": [1, 1]}, "give a column, or several different ones"),
        ({"training_size": None}, "training_size is missing"),
        ({"k": 5}, "l = 4 is smaller than k = 5"),
        ({"k": 3}, "l - k = 1 is odd"),
        ({"k": 2.0}, "k = 2.0: give a whole number"),
        ({"k": 0}, "k = 0: give a whole number"),
        ({"stride": True}, "stride = True: give a whole number"),
        ({"samples": 0}, "samples = 0: give a whole number"),
        ({"samples": 1}, "one draw tells nothing about its error"),
        ({"samples": 2.5}, "samples = 2.5: give a whole number"),
        ({"batch_size": -1}, "batch_size = -1: give a whole number"),
        ({"batch_size": 0}, "batch_size = 0: give a whole number"),
        ({"training_size": 0}, "training_size = 0: give a whole number"),
    ],
)
def test_wrong_settings(change: dict, message: str) -> None:
    with pytest.raises(preddiff.InputError, match=message):
        preddiff.explain(ITEMS[0], means, preddiff.Conditional(GAUSSIAN), **{**SETTINGS, **change})


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (lambda batch: batch.mean((1, 2, 3)), "one row of numbers"),
        (lambda batch: means(batch) * np.nan, "not finite"),
        (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2)), "call its eval"),
        (lambda batch: means(batch)[:, 1:], "puts out 1 numbers"),
    ],
)
def test_wrong_classifiers(classifier, message: str) -> None:
    with pytest.raises(preddiff.InputError, match=message):
        preddiff.explain(ITEMS[0], classifier, preddiff.Conditional(GAUSSIAN), **SETTINGS)


def test_channels_must_agree() -> None:
    with pytest.raises(preddiff.InputError, match="1 channels, the input has 3"):
        preddiff.explain(np.zeros((3, 6, 6)), means, preddiff.Conditional(GAUSSIAN), **SETTINGS)


@pytest.mark.parametrize("classifier", [means, "linear"])
def test_windows_that_are_foretold_are_warned_of(classifier) -> None:
    if classifier == "linear":
        classifier = preddiff.LinearClassifier(np.ones((1, 6, 6)), 0.0, ("a", "b"), 20, (0, 0))
    # Sums of three waves: a pixel is known from those around it.
    rows, columns = np.mgrid[:6, :6]
    waves = np.stack([np.cos(rows / 2), np.sin(columns / 3), np.cos((rows + columns) / 4)])
    items = np.einsum("ni,ixy->nxy", np.random.default_rng(1).normal(size=(200, 3)), waves)
    foretold = preddiff.PatchGaussian.fit(items[:, None], l=4, patches=2000)
    with pytest.warns(UserWarning, match="k = 2 .* Choose a larger k") as caught:
        preddiff.explain(items[:1], classifier, preddiff.Conditional(foretold), **SETTINGS)
    assert [one.filename for one in caught] == [__file__]
    for sampler in (preddiff.Conditional(GAUSSIAN), preddiff.Grey(0.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            preddiff.explain(ITEMS[0], classifier, sampler, **SETTINGS)


def test_relevance_is_signed_for_the_target() -> None:
    x = ITEMS[0] + 5
    for_first = preddiff.explain(x, means, preddiff.Grey(0.0), **{**SETTINGS, "target": 0})
    for_second = preddiff.explain(x, means, preddiff.Grey(0.0), **SETTINGS)
    assert (for_first.relevance > 0).all() and (for_second.relevance < 0).all()
    assert not for_first.stderr.any()


@pytest.mark.parametrize("output", ["logits", "activations"])
def test_a_module_is_explained_as_a_function_of_arrays_is(output: str) -> None:
    torch.manual_seed(0)
    items = smooth(np.random.default_rng(0), (20, 2, 20, 22))
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(360, 3),
    ).eval()
    before = {name: values.clone() for name, values in module.state_dict().items()}

    def function(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(batch)).numpy()

    sampler = preddiff.Conditional(fitted(items, 4))
    settings = {**SETTINGS, "stride": 2, "samples": 3, "output": output}
    by_module, by_function = (
        preddiff.explain(items[0], one, sampler, **settings) for one in (module, function)
    )
    scale = np.abs(by_function.relevance).max()
    np.testing.assert_allclose(by_module.relevance, by_function.relevance, atol=1e-4 * scale)
    np.testing.assert_allclose(by_module.stderr, by_function.stderr, atol=1e-3 * scale)
    for name, values in module.state_dict().items():
        assert values.equal(before[name])


class Untidy(torch.nn.Module):
    """Changes its input in place, and flattens by a view, as many networks do."""

    def __init__(self, tidy: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tidy = tidy
        self.conv = torch.nn.utils.weight_norm(torch.nn.Conv2d(2, 4, 3))
        self.head = torch.nn.Linear(4 * 18 * 20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.tidy:
            return self.head(torch.flatten(torch.relu(self.conv((x - 0.3) * 5)), 1))
        x -= 0.3
        x *= 5
        x = torch.relu(self.conv(x))
        return self.head(x.view(x.size(0), -1))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_untidy_networks_are_explained_as_tidy_ones_are() -> None:
    items = smooth(np.random.default_rng(0), (20, 2, 20, 22))
    x = items[0].astype(np.float32)
    before = x.copy()
    sampler = preddiff.Conditional(fitted(items, 4))
    settings = {**SETTINGS, "stride": 2, "samples": 3}
    tidy, untidy = (
        preddiff.explain(x, Untidy(tidy).eval(), sampler, **settings) for tidy in (True, False)
    )
    scale = np.abs(tidy.relevance).max()
    np.testing.assert_allclose(untidy.relevance, tidy.relevance, atol=1e-4 * scale)
    np.testing.assert_array_equal(x, before)


def test_one_draw_will_do_of_what_is_not_random() -> None:
    one = preddiff.explain(ITEMS[0], means, preddiff.Grey(0.0), **SETTINGS, samples=1)
    ten = preddiff.explain(ITEMS[0], means, preddiff.Grey(0.0), **SETTINGS, stride=1)
    assert np.array_equal(one.relevance, ten.relevance) and not one.stderr.any()


def test_numbers_of_numpy_are_numbers() -> None:
    settings = {**SETTINGS, "k": np.int64(2), "samples": np.int32(3)}
    found = preddiff.explain(ITEMS[0], means, preddiff.Conditional(GAUSSIAN), **settings)
    assert found.relevance.shape == (6, 6)


def linear() -> preddiff.LinearClassifier:
    weights = np.random.default_rng(1).normal(size=(1, 6, 6))
    return preddiff.LinearClassifier(weights, 0.0, ("no", "yes"), 20, (0, 0))


def test_samples_do_not_matter_where_expectations_are_exact() -> None:
    sampler = preddiff.Conditional(GAUSSIAN)
    one, ten = (
        preddiff.explain(ITEMS[0], linear(), sampler, **SETTINGS, samples=samples)
        for samples in (1, 10)
    )
    assert np.array_equal(one.relevance, ten.relevance) and not one.stderr.any()


@pytest.mark.parametrize("target", [-1, 2])
def test_a_linear_classifier_has_two_targets(target: int) -> None:
    with pytest.raises(preddiff.InputError, match=rf"target {target}: .* 2 numbers"):
        preddiff.explain(
            ITEMS[0], linear(), preddiff.Conditional(GAUSSIAN), **{**SETTINGS, "target": target}
        )


def three_classes() -> preddiff.LinearClassifier:
    weights = np.random.default_rng(1).normal(size=(3, 1, 6, 6)) * 0.3
    return preddiff.LinearClassifier(weights, np.array([0.1, 0, -0.1]), tuple("abc"), 20, (0, 0))


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_linear_probabilities_of_more_classes_are_those_of_draws(output: str) -> None:
    linear, sampler = three_classes(), preddiff.Conditional(GAUSSIAN)
    settings = {**SETTINGS, "samples": 5}
    found = preddiff.explain(ITEMS[0], linear, sampler, **settings, output=output)
    # As of any function that puts out these logits.
    settings["training_size"] = 20
    expected = preddiff.explain(ITEMS[0], lambda batch: linear.outputs(batch), sampler, **settings)
    assert found.relevance == pytest.approx(expected.relevance, abs=1e-12)
    assert (found.stderr > 0).any()
    assert found.expectations.reference[0, 0] == pytest.approx(
        softmax(linear.outputs(ITEMS[:1])[0])[1]
    )


def test_linear_outputs_of_more_classes_are_explained_exactly() -> None:
    linear, sampler = three_classes(), preddiff.Conditional(GAUSSIAN)
    settings = {**SETTINGS, "target": [0, 2], "output": "activations"}
    found = preddiff.explain(ITEMS[0], linear, sampler, **settings)
    drawn = preddiff.explain(
        ITEMS[0], lambda batch: linear.outputs(batch), sampler, **settings, samples=2000
    )
    assert not found.stderr.any()
    assert (np.abs(found.relevance - drawn.relevance) < 5 * drawn.stderr + 1e-6).all()


def test_values_are_explained_by_their_difference() -> None:
    """A decision value, and a prediction, as the logit that has the same weights."""
    sampler, settings = preddiff.Conditional(GAUSSIAN), {**SETTINGS, "target": 0}
    expected = preddiff.explain(ITEMS[0], linear(), sampler, **settings, output="activations")
    decision = replace(linear(), has_probabilities=False)
    found = preddiff.explain(ITEMS[0], decision, sampler, **settings)
    assert np.array_equal(found.relevance, expected.relevance)
    age = replace(decision, classes=("age",))
    found = preddiff.explain(ITEMS[0], age, sampler, **settings)
    assert np.array_equal(found.relevance, -expected.relevance)


def test_threads_are_left_as_they_are() -> None:
    before = torch.get_num_threads()
    preddiff.explain(ITEMS[0], means, preddiff.Grey(0.0), **SETTINGS)
    assert torch.get_num_threads() == before


def blob(batch: np.ndarray) -> np.ndarray:
    """Logits of what is bright in the middle."""
    shown = batch[:, 0, 8:14, 9:15].mean((1, 2))
    return np.stack([-2 * shown, 2 * shown], axis=1)


REFINED = {"k": 4, "target": 1, "training_size": 20, "progress": False}


@pytest.fixture(scope="module")
def larger() -> tuple[np.ndarray, preddiff.Conditional]:
    items = smooth(np.random.default_rng(1), (20, 1, 26, 24))
    return items[0], preddiff.Conditional(fitted(items, 6))


def test_accuracy_is_reached_and_its_error_is_honest(larger) -> None:
    x, sampler = larger
    found = preddiff.explain(x, blob, sampler, accuracy=0.05, **REFINED)
    reference = preddiff.explain(x, blob, sampler, samples=400, seed=9, **REFINED)
    largest = np.abs(reference.relevance).max()
    error = found.relevance - reference.relevance
    assert found.reached <= 0.05
    assert np.sqrt((error**2).mean()) < 1.25 * 0.05 * largest
    assert (np.abs(error) <= 2 * found.error).mean() > 0.9
    assert (found.stderr <= found.error).all()
    assert np.isnan(found.expectations.change[0, 0][found.draws == 0]).all()
    assert np.isfinite(found.expectations.change[0, 0][found.draws > 0]).all()


def test_accuracy_is_the_default_unless_samples_or_stride_are_given(larger) -> None:
    x, sampler = larger
    plain = preddiff.explain(x, blob, sampler, **REFINED)
    assert plain.reached <= 0.02
    for paper in ({"samples": 2}, {"stride": 2}):
        found = preddiff.explain(x, blob, sampler, **REFINED, **paper)
        assert found.error is None and found.draws is None and found.reached is None


def test_levels_are_shown_and_do_not_depend_on_batches(larger) -> None:
    x, sampler = larger
    levels: dict[int, list] = {8: [], 100: []}
    for size, seen in levels.items():
        preddiff.explain(
            x, blob, sampler, accuracy=0.01, batch_size=size, on_level=seen.append, **REFINED
        )
    one, other = levels.values()
    assert len(one) == len(other) > 3
    passes = [level.draws.sum() for level in one]
    assert passes == sorted(passes) and passes[0] < passes[-1] / 3
    for ours, theirs in zip(one, other, strict=True):
        assert np.array_equal(ours.relevance, theirs.relevance)
        assert np.array_equal(ours.draws, theirs.draws)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 0}, "accuracy = 0: give the error that is allowed"),
        ({"accuracy": 1}, "accuracy = 1: give"),
        ({"accuracy": -0.1}, "accuracy = -0.1: give"),
        ({"accuracy": float("nan")}, "accuracy = nan: give"),
        ({"accuracy": 0.02, "samples": 10}, "give either"),
        ({"accuracy": 0.02, "stride": 2}, "give either"),
    ],
)
def test_wrong_accuracies(larger, change: dict, message: str) -> None:
    x, sampler = larger
    with pytest.raises(preddiff.InputError, match=message):
        preddiff.explain(x, blob, sampler, **REFINED, **change)


def network() -> torch.nn.Module:
    """Logits of a network that bfloat16 rounds too much for such an accuracy."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 4, 3, padding=1),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 13 * 12, 2),
    )
    layers[0].bias.data += 20
    return layers.eval().requires_grad_(False)


def test_bfloat16_is_corrected_for_an_accuracy(larger) -> None:
    x, sampler = larger
    settings = {**REFINED, "precision": "bfloat16"}
    exact = preddiff.explain(x, network(), sampler, samples=50, seed=9, **REFINED).relevance
    found = preddiff.explain(x, network(), sampler, accuracy=0.03, **settings)
    paper = preddiff.explain(x, network(), sampler, samples=50, seed=9, **settings)
    largest = np.abs(exact).max()
    error, shift = (
        np.sqrt(np.square(one.relevance - exact).mean()) / largest for one in (found, paper)
    )
    assert found.reached <= 0.03 and error < 1.4 * 0.03 < shift
    assert (found.stderr <= found.error * (1 + 1e-9)).all()


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_a_function_has_no_precision(larger, output: str) -> None:
    x, sampler = larger
    with pytest.raises(preddiff.InputError, match="precision bfloat16 is for torch modules"):
        preddiff.explain(x, blob, sampler, output=output, precision="bfloat16", **REFINED)


@pytest.mark.parametrize("settings", [{"samples": 3}, {"stride": 2}])
def test_several_targets_share_the_draws(larger, settings: dict) -> None:
    x, sampler = larger
    both = preddiff.explain(x, blob, sampler, **{**REFINED, "target": [1, 0]}, **settings)
    for row, target in enumerate((1, 0)):
        one = preddiff.explain(x, blob, sampler, **{**REFINED, "target": target}, **settings)
        assert both.relevance[row] == pytest.approx(one.relevance, abs=1e-12)
        assert both.stderr[row] == pytest.approx(one.stderr, abs=1e-12)
        assert both.expectations.change[0, row] == pytest.approx(one.expectations.change[0, 0])
    assert both.error is None and both.reached is None


def test_each_of_several_targets_has_the_accuracy(larger) -> None:
    x, sampler = larger
    seen: list[preddiff.Explanation] = []
    found = preddiff.explain(
        x, blob, sampler, accuracy=0.05, on_level=seen.append, **{**REFINED, "target": [1, 0]}
    )
    largest = np.abs(found.relevance).max((1, 2))
    rms = np.sqrt(np.square(found.error).mean((1, 2)))
    assert found.relevance.shape == found.error.shape == (2, *x.shape[1:])
    assert found.reached == pytest.approx(rms / largest) and (found.reached <= 0.05).all()
    assert found.draws.shape == found.windows.shape
    assert len(seen) > 1 and np.array_equal(seen[-1].relevance, found.relevance)


def test_several_targets_of_a_linear_classifier() -> None:
    settings = {**SETTINGS, "training_size": None}
    both = preddiff.explain(
        ITEMS[0], linear(), preddiff.Grey(0.0), **{**settings, "target": [0, 1]}
    )
    one = preddiff.explain(ITEMS[0], linear(), preddiff.Grey(0.0), **settings)
    assert np.array_equal(both.relevance[1], one.relevance)
    assert both.relevance[0] == pytest.approx(-both.relevance[1])


def test_linear_classifiers_need_no_accuracy() -> None:
    with pytest.raises(preddiff.InputError, match="are exact"):
        preddiff.explain(ITEMS[0], linear(), preddiff.Grey(0.0), **SETTINGS, accuracy=0.02)


def test_few_windows_that_are_not_random_are_all_drawn_and_exact() -> None:
    plain = preddiff.explain(ITEMS[0], means, preddiff.Grey(0.0), **SETTINGS, stride=1)
    found = preddiff.explain(ITEMS[0], means, preddiff.Grey(0.0), **SETTINGS, accuracy=0.02)
    assert (found.draws == 1).all()
    assert found.relevance == pytest.approx(plain.relevance, abs=1e-5)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("output", ["logits", "activations"])
def test_linear_classifiers_have_no_precision(precision: Any, output: Any) -> None:
    settings = {**SETTINGS, "precision": precision, "output": output}
    with pytest.raises(
        preddiff.InputError, match="precision: maps of linear classifiers are exact"
    ):
        preddiff.explain(ITEMS[0], linear(), preddiff.Grey(0.0), **settings)


def test_an_item_is_explained_with_its_nuisance_variables(tmp_path: Path) -> None:
    nuisance = Nuisance(("age",), ("age",), np.array([[0.25]]))
    one, ages = replace(linear(), nuisance=nuisance), np.arange(len(ITEMS))[:, None] - 5.0
    items = write_store(tmp_path / "d.zarr", ITEMS, nuisance=(["age"], ages))
    sampler = preddiff.Conditional(GAUSSIAN)
    with pytest.raises(preddiff.InputError, match=r"variables \(age\), .* use `for_item\("):
        preddiff.explain(ITEMS[2], one.for_items(items), sampler, **SETTINGS)
    found = preddiff.explain(ITEMS[2], one.for_item(items, "item-2"), sampler, **SETTINGS)
    alone = replace(linear(), intercept=-3 * 0.25)
    expected = preddiff.explain(ITEMS[2], alone, sampler, **SETTINGS)
    assert found.relevance == pytest.approx(expected.relevance, abs=1e-12)
