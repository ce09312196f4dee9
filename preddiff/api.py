"""The Python interface: explain one input of any classifier."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preddiff.classifiers.given import (
    Classifier,
    GivenNodes,
    Output,
    network_nodes,
    require_targets,
)
from preddiff.classifiers.linear import LinearClassifier
from preddiff.classifiers.precision import Precision
from preddiff.devices import use_cores
from preddiff.engines import linear
from preddiff.engines.base import Engine
from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.engines.refined import Level, levels
from preddiff.errors import InputError
from preddiff.evidence import (
    Evidence,
    Expectations,
    activation_difference,
    relevance,
    standard_error,
    weight_of_evidence,
    weight_of_evidence_slope,
)
from preddiff.explanation import Explanation
from preddiff.progress import progress as show
from preddiff.refinement import Refinement, passes_left
from preddiff.samplers.conditional import Conditional
from preddiff.samplers.draws import Sampler
from preddiff.samplers.foretold import AnyGaussian, foretold
from preddiff.targets import Kind, Target
from preddiff.windows import Windows

# Windows per block. Draws are a function of the block, so that a change of this changes them.
_BLOCK = 2048
_ITEM = "input"
# Accuracy, and number of draws, where nothing is said about them.
_ACCURACY, _SAMPLES = 0.02, 10


def explain(
    x: NDArray[np.floating],
    classifier: Classifier | LinearClassifier,
    sampler: Sampler,
    *,
    k: int,
    target: int | Sequence[int],
    output: Output = "logits",
    training_size: int | None = None,
    accuracy: float | None = None,
    samples: int | None = None,
    stride: int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    batch_size: int | None = None,
    progress: bool = True,
    on_level: Callable[[Explanation], object] | None = None,
) -> Explanation:
    """Explain one input by prediction difference analysis (Algorithm 1 of the paper).

    Unless `samples` or `stride` is given, windows are drawn level by level, from coarse to fine and
    more where it matters, until the map is as exact as `accuracy` asks for.

    Parameters
    ----------
    x : array (channels, *space)
        An image (C, H, W) or a volume (C, X, Y, Z).
    classifier : torch module, callable or LinearClassifier
        A module or callable takes a batch of inputs (n, channels, *space), as float32 tensor or
        NumPy array, to one row of numbers per input. A `LinearClassifier` is explained exactly,
        without draws, except for the probabilities of more than two classes.
    sampler : Conditional, Marginal or Grey
        What redraws the windows.
    k : int
        Side of a window, in voxels.
    target : int or sequence of int
        Column of the classifier's output that is explained. Several share all forward passes, and
        the accuracy holds for the map of each.
    output : {"logits", "probabilities", "activations"}
        What the classifier puts out. Of logits the softmax is taken; of probabilities the weight
        of evidence; anything else is explained by the activation difference.
    training_size : int, optional
        Number N of instances the classifier was trained on, for the Laplace correction; needed
        for logits and probabilities, but known of a `LinearClassifier`.
    accuracy : float, optional
        Root mean square of the map's error that is allowed, as a share of its largest magnitude.
        The default is 0.02, unless `samples` or `stride` is given. It is not for linear
        classifiers, whose maps are exact. On small inputs, whose voxels are in few windows, it can
        take more forward passes than the paper's settings, which are less exact there.
    samples : int, optional
        Number S of draws per window, at least 2, as in the paper; 10 if only `stride` is given.
    stride : int, optional
        Distance of neighbouring windows; 1 if only `samples` is given.
    seed : int
        Same seed, same draws.
    precision : {"float32", "tf32", "bfloat16"}
        Arithmetic of a torch module; tf32 needs a GPU. bfloat16 shifts maps: with an accuracy, some
        draws are made in float32 too, from which the shift is corrected.
    batch_size : int, optional
        Inputs per forward pass; by default as suits the device of the module.
    progress : bool
        Show a progress bar.
    on_level : callable, optional
        With an accuracy: called with the explanation after each level. The first takes about a
        thousandth of the forward passes of the paper's settings.

    Returns
    -------
    Explanation

    Raises
    ------
    InputError
        If the settings do not fit the input, or the classifier's output is not as described.

    Warns
    -----
    UserWarning
        If the surroundings foretell more than 99% of a window's variance, so that the map shows
        next to nothing (`preddiff.samplers.foretold`).

    Notes
    -----
    On Linux the process is told to keep the memory that it frees, as the stages of a study do
    (`preddiff.devices.use_cores`); the number of threads is left as it is.

    Examples
    --------
    >>> import numpy as np, preddiff
    >>> images = np.random.default_rng(0).random((50, 1, 8, 8))
    >>> gaussian = preddiff.PatchGaussian.fit(images, l=4, patches=2000)
    >>> def brightness(batch):
    ...     return np.stack([-batch.sum((1, 2, 3)), batch.sum((1, 2, 3))], axis=1) / 10
    >>> found = preddiff.explain(
    ...     images[0], brightness, preddiff.Conditional(gaussian), k=2, target=1,
    ...     training_size=50, progress=False,
    ... )
    >>> found.relevance.shape
    (8, 8)
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim not in (3, 4):
        raise InputError(
            f"input of shape {x.shape}: give (channels, height, width) or (channels, x, y, z)"
        )
    _check_numbers(
        k=k, stride=stride, samples=samples, batch_size=batch_size, training_size=training_size
    )
    windows, targets = Windows(x.shape[1:], k, stride or 1), _targets(target)
    if warning := _warning_of_scale(sampler, k):
        warnings.warn(warning, stacklevel=2)
    # Without it passes take two to three times as long on a CPU: each gives its memory back.
    use_cores(None)
    if isinstance(classifier, LinearClassifier) and _is_exact(classifier, output):
        if accuracy is not None or precision != "float32":
            raise InputError(
                "accuracy, precision: maps of linear classifiers are exact; leave both out"
            )
        exact = _exact_engine(classifier, sampler, windows, targets, output)
        found = _all_blocks(exact, x, windows, len(targets), progress)
        if not classifier.has_probabilities:
            output = "activations"
        asked = _Asked(x, windows, targets, output)
        size = classifier.training_size
        every = _explanation(found, asked, size, len(classifier.classes), None)
        return _chosen(every, target)
    if isinstance(classifier, LinearClassifier):
        # The softmax of several outputs has no exact expectation.
        training_size, classifier, output = classifier.training_size, classifier.outputs, "logits"
    accuracy = _accuracy(accuracy, samples, stride)
    samples = samples or _SAMPLES
    _require_draws(sampler, samples)
    nodes = GivenNodes(classifier, targets, output)
    classes = nodes.count(x)
    _require_odds(output, classes, training_size)
    settings = sampler, windows, samples, seed, batch_size
    engine = _drawing_engine(nodes, x, classes, settings, precision)
    asked = _Asked(x, windows, targets, output)
    if accuracy is None:
        found = _all_blocks(engine, x, windows, len(targets), progress)
        every = _explanation(found, asked, training_size, classes, samples)
        return _chosen(every, target)
    # Other outputs are explained by the activation difference.
    kind: Kind = "value" if output == "activations" else "probability"
    explained = [Target(kind, str(one)) for one in targets]
    evidence = Evidence(samples, training_size or 1, classes)
    in_two = precision == "bfloat16"
    in_float32 = _drawing_engine(nodes, x, classes, settings, "float32") if in_two else None
    refinement = Refinement(windows, explained, evidence, sampler.random, in_two)

    def show_level(level: Level) -> None:
        if on_level is not None:
            on_level(_chosen(_of_level(level, asked), target))

    last = _refined((engine, in_float32), refinement, x, accuracy, progress, show_level)
    return _chosen(_of_level(last, asked), target)


@dataclass(frozen=True)
class _Asked:
    """What is explained: the input and its windows, and columns of the output, read as it says."""

    x: NDArray[np.float32]
    windows: Windows
    targets: tuple[int, ...]
    output: Output

    @property
    def unit(self) -> str:
        return "output" if self.output == "activations" else "bits"


def _warning_of_scale(sampler: Sampler, k: int) -> str:
    """What a user should know of maps of windows that are foretold; empty if there is no need."""
    if isinstance(sampler, Conditional) and isinstance(sampler.gaussian, AnyGaussian):
        return foretold(sampler.gaussian, k).warning
    return ""


def _targets(target: int | Sequence[int]) -> tuple[int, ...]:
    """Columns that are explained, from what the user gave."""
    given = (target,) if isinstance(target, int | np.integer) else tuple(target)
    are_columns = all(isinstance(one, int | np.integer) for one in given)
    if not given or not are_columns or len({*given}) < len(given):
        raise InputError(f"target = {target!r}: give a column, or several different ones")
    return tuple(int(one) for one in given)


def _chosen(every: Explanation, target: int | Sequence[int]) -> Explanation:
    """Explanation in the form that was asked for: a single target has no axis of targets."""
    if not isinstance(target, int | np.integer):
        return every
    first = {
        name: values[0]
        for name in ("relevance", "stderr", "evidence", "error")
        if (values := getattr(every, name)) is not None
    }
    reached = None if every.reached is None else float(np.ravel(every.reached)[0])
    return replace(every, **first, target=int(target), reached=reached)


def _accuracy(accuracy: float | None, samples: int | None, stride: int | None) -> float | None:
    """Return the accuracy that applies; None for the paper's algorithm."""
    paper = samples is not None or stride is not None
    if accuracy is None:
        return None if paper else _ACCURACY
    if paper:
        raise InputError(
            "accuracy, or samples and stride: an accuracy decides itself which windows are drawn "
            "how often; give either"
        )
    if not 0 < accuracy < 1:
        raise InputError(
            f"accuracy = {accuracy!r}: give the error that is allowed as a share of the map's "
            "largest magnitude, between 0 and 1, such as 0.02"
        )
    return accuracy


def _require_odds(output: Output, classes: int, training_size: int | None) -> None:
    """Check that the weight of evidence can be computed, unless it is not needed."""
    if output == "activations":
        return
    if classes == 1:
        raise InputError(
            "the classifier puts out a single number, which tells no odds between classes: "
            "let it give one for each class, or explain it as output='activations'"
        )
    if training_size is None:
        raise InputError(
            "training_size is missing: the weight of evidence needs the number of training "
            "instances for its Laplace correction"
        )


def _drawing_engine(
    nodes: GivenNodes,
    x: NDArray[np.float32],
    classes: int,
    settings: tuple[Any, ...],
    precision: Precision,
) -> Dense:
    if isinstance(nodes.classifier, torch.nn.Module) and nodes.output != "probabilities":
        space = tuple(x.shape[1:])
        network = network_nodes(nodes.classifier, nodes, space, len(x), classes, precision, _ITEM)
        return Incremental(network, *settings, device=nodes.device)
    if precision != "float32":
        raise InputError(
            f"precision {precision} is for torch modules that put out logits or activations: leave "
            "it out"
        )
    return Dense(nodes, *settings, device=nodes.device)


def _refined(
    engines: tuple[Dense, Dense | None],
    refinement: Refinement,
    x: NDArray[np.float32],
    accuracy: float,
    progress: bool,
    on_level: Callable[[Level], object],
) -> Level:
    """Draw level by level until the accuracy is reached."""
    engine, in_float32 = engines
    with show(total=None, desc="explain", unit="window", disable=not progress) as bar:
        for level in levels(engine, refinement, x, _ITEM, bar.update, (), in_float32):
            on_level(level)
            passes, reached = level.drawn.passes, level.estimate.reached
            bar.set_postfix_str(f"error {reached.max():.3f}")
            if refinement.is_reached(passes, reached, accuracy):
                break
            bar.total = bar.n + passes_left(passes, reached, accuracy) // refinement.samples
    return level


def _of_level(level: Level, asked: _Asked) -> Explanation:
    drawn, estimate = level.drawn, level.estimate
    missing = drawn.draws == 0
    change, variance = (np.where(missing, np.nan, v)[None] for v in (drawn.change, drawn.variance))
    return Explanation(
        estimate.relevance,
        estimate.stderr,
        estimate.evidence,
        Expectations(drawn.reference[None], change, variance),
        asked.windows,
        asked.x,
        asked.targets,
        asked.unit,
        estimate.error,
        drawn.draws,
        estimate.reached,
    )


def _check_numbers(**numbers: int | None) -> None:
    """Refuse numbers, unless they are not given, that are not positive integers."""
    for name, number in numbers.items():
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise InputError(f"{name} = {number!r}: give a whole number from 1")


def _require_draws(sampler: Sampler, samples: int) -> None:
    if samples < 2 and sampler.random:
        raise InputError(
            "samples = 1: one draw tells nothing about its error; give at least 2, or a sampler "
            "that is not random, such as Grey"
        )


def _is_exact(classifier: LinearClassifier, output: Output) -> bool:
    """Whether expectations are known without draws."""
    explains_outputs = output == "activations" or not classifier.has_probabilities
    return explains_outputs or len(classifier.maps) == 1


def _exact_engine(
    classifier: LinearClassifier,
    sampler: Sampler,
    windows: Windows,
    targets: Sequence[int],
    output: Output,
) -> linear.Exact:
    require_targets(targets, len(classifier.classes))
    kind: Kind = "logit" if output == "activations" else "probability"
    if not classifier.has_probabilities:
        kind = "value"
    explained = [Target(kind, classifier.classes[one]) for one in targets]
    return linear.Exact(classifier, sampler, windows, explained)


def _all_blocks(
    engine: Engine, x: NDArray[np.float32], windows: Windows, targets: int, progress: bool
) -> Expectations:
    shape = (1, targets, *windows.shape)
    change, variance = np.empty(shape), np.empty(shape)
    reference = np.empty((1, targets))
    blocks = list(windows.blocks(_BLOCK))
    total = sum(block.size for block in blocks)
    with show(total=total, desc="explain", unit="window", disable=not progress) as bar:
        for block in blocks:
            found = engine.expectations(x[None], [_ITEM], block, bar.update)
            reference = found.reference
            part: Any = (..., *block.slices)
            change[part] = found.change
            variance[part] = found.variance
    return Expectations(reference, change, variance)


def _explanation(
    found: Expectations,
    asked: _Asked,
    training_size: int | None,
    classes: int,
    drawn: int | None,
) -> Explanation:
    (change,), (variance,) = found.change, found.variance
    windows = asked.windows
    reference = found.reference[0].reshape(-1, *[1] * len(windows.shape))
    error = np.zeros_like(variance) if drawn is None else np.sqrt(variance / drawn)
    if asked.output == "activations":
        evidence = activation_difference(change)
    else:
        assert training_size is not None
        evidence = weight_of_evidence(reference, change, training_size, classes)
        error *= np.abs(weight_of_evidence_slope(reference, change, training_size, classes))
    return Explanation(
        relevance(evidence, windows),
        standard_error(error, windows),
        evidence,
        found,
        windows,
        asked.x,
        asked.targets,
        asked.unit,
    )
