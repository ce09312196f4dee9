"""Guided feature inversion: the smallest mask of an input that keeps what a class needs.

M. Du, N. Liu, Q. Song, X. Hu, "Towards explanation of DNN-based prediction with guided feature
inversion", KDD 2018, arXiv 1804.00506; the authors' code is mndu/guided-feature-inversion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps, MethodSettings, Nodes
from preddiff.methods.fills import blurred
from preddiff.settings.base import Positive
from preddiff.storage.maps import Extra
from preddiff.targets import Target

Weight = Annotated[float, Field(ge=0)]
# Differentiable function of inputs (rows, channels, *space), or of masks (rows, 1, *space).
Function = Callable[[Tensor], Tensor]

# Weight of every channel at the start.
_FIRST = 0.1
# Below this, all weights count as zero: a step of Adam is ten thousand times as long.
_ZERO = 1e-6
# The paper's blur and the side of its inputs; the least blur, in voxels.
_BLUR, _SIDE, _LEAST_BLUR = 11.0, 224, 2.0
# Steps after which the learning rate is halved.
_HALVED_AFTER = 10
# A loss has not converged if its last steps account for more than this share of its fall.
_LAST, _SHARE = 10, 0.1


@dataclass(frozen=True)
class Recipe:
    """How masks are optimised.

    Attributes
    ----------
    steps : (int, int)
        Steps of the two stages.
    rate : float
        Learning rate of Adam.
    sparsity : (float, float)
        Weight of the penalty in the two stages, gamma and delta.
    removed : float
        Weight lambda of the target's value without the masked part.
    squares : bool
        Whether the penalty is the sum of w^2, instead of that of |w|.
    relative : bool
        Whether the inversion error is divided by ||f(x)||^2.
    one_adam : bool
        Whether one Adam runs through both stages, and its learning rate is halved from the start,
        instead of one for each stage, and halved in the second only.
    scaled_last : bool
        Whether masks are scaled after upsampling, as (m - min) / max; see `masks_of`.
    """

    steps: tuple[int, int]
    rate: float
    sparsity: tuple[float, float]
    removed: float
    squares: bool
    relative: bool
    one_adam: bool
    scaled_last: bool

    def penalty(self, weights: Tensor, stage: int) -> Tensor:
        """Penalty (rows,) of weights (rows, channels)."""
        size = weights.square() if self.squares else weights.abs()
        return self.sparsity[stage] * size.sum(1)

    def rate_of(self, step: int, stage: int) -> float:
        """Learning rate of a step, counted from 0 within its stage."""
        if self.one_adam:
            step += stage * self.steps[0]
        elif stage == 0:
            step = 0
        return self.rate * 0.5 ** (step // _HALVED_AFTER)


PRESETS = {
    "paper": Recipe((10, 70), 0.01, (10.0, 1.0), 1.0, False, False, False, False),
    "code": Recipe((11, 69), 0.01, (5.0, 2.0), 1.0, True, True, True, True),
}


@METHODS.register
class FeatureInversion(MethodSettings):
    """Guided feature inversion (Du et al. 2018): a mask made of the channels of a layer."""

    is_random: ClassVar[bool] = True
    needs_layers: ClassVar[bool] = True
    shows_evidence: ClassVar[bool] = False
    has_first_stage: ClassVar[bool] = True
    seconds_per_item: ClassVar[float] = 8.0
    places: ClassVar[tuple[str, ...]] = (*MethodSettings.places, "items_at_once")

    method: Literal["feature-inversion"] = Field(description="feature-inversion")
    preset: Literal["paper", "code"] = Field(
        "paper",
        description="defaults of the optimisation: those of the paper, or those of the authors' "
        "code, which differ in the penalty, the scaling of masks and the learning rate",
    )
    stage: Literal[1, 2] = Field(
        2,
        description="1 stops after the first stage, which keeps what the network sees, for all "
        "targets alike; 2 goes on to what each target needs",
    )
    layer: str | None = Field(
        None,
        description="layer whose channels make the mask; default: the last layer with maps before "
        "pooling",
    )
    inversion_layer: str | None = Field(
        None,
        description="layer whose activations the first stage keeps; default: that of `layer`",
    )
    background: Literal["blur", "grey", "noise"] = Field(
        "blur",
        description="what replaces the removed part: the blurred item; zero after standardisation; "
        "or noise with the mean and standard deviation of the item's channels",
    )
    blur: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="standard deviation of the blur, in voxels; default: 11 for a shortest side of "
        "224, in proportion for others, at least 2",
    )
    steps: tuple[Positive, Positive] | None = Field(
        None, description="steps of the two stages; default: 10 and 70 (paper), 11 and 69 (code)"
    )
    rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="learning rate of Adam; default: 0.01"
    )
    sparsity: tuple[Weight, Weight] | None = Field(
        None,
        description="weights of the penalty in the two stages; default: 10 and 1 on the sum of "
        "weights (paper), 5 and 2 on the sum of their squares (code)",
    )
    removed: Weight | None = Field(
        None, description="weight of the target's value without the masked part; default: 1"
    )
    items_at_once: Positive = Field(
        1,
        description="number of items whose masks are optimised side by side, for GPUs; changes "
        "results by rounding only",
    )

    @property
    def items_per_batch(self) -> int:
        """Number of items whose masks are optimised side by side."""
        return self.items_at_once

    @property
    def recipe(self) -> Recipe:
        """The preset, with the settings that are given."""
        recipe = PRESETS[self.preset]
        return replace(
            recipe,
            steps=self.steps or recipe.steps,
            rate=self.rate or recipe.rate,
            sparsity=self.sparsity or recipe.sparsity,
            removed=recipe.removed if self.removed is None else self.removed,
        )

    def extras(self, nodes: Nodes, shape: tuple[int, ...], targets: int) -> dict[str, Extra]:
        """Declare the mask of the first stage, weights, losses, and what the masks do."""
        channels = self._features(nodes, torch.zeros((1, *shape))).shape[1]
        steps = sum(self.recipe.steps[: self.stage])
        per_target = {
            "kept": "value of the target with only the masked part of the item",
            "removed": "value of the target without the masked part of the item",
            "stuck": "1 if a step was not taken, because all weights would have become zero",
        }
        space = ("y", "x") if len(shape) == 3 else ("x", "y", "z")
        return {
            "first_stage": Extra(space, shape[1:], "mask of the first stage, for all targets"),
            "weights": Extra(("target", "channel"), (targets, channels), "weights of the channels"),
            "loss": Extra(("target", "step"), (targets, steps), "loss before each step"),
            **{name: Extra(("target",), (targets,), text) for name, text in per_target.items()},
        }

    def prepared(self, nodes: Nodes) -> Nodes:
        """Fold batch normalisations, since each item takes many passes."""
        return nodes.folded()

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Compute the masks of one item."""
        return self.maps_of_batch(nodes, x[None], [item], targets, [seed])[0]

    def maps_of_batch(
        self,
        nodes: Nodes,
        x: Tensor,
        items: Sequence[str],
        targets: Sequence[Target],
        seeds: Sequence[int],
    ) -> list[Maps]:
        """Compute the masks of several items, which are optimised side by side."""
        recipe = self.recipe
        pairs = zip(x, seeds, strict=True)
        empty = torch.stack([self._background(one, seed) for one, seed in pairs])
        problem = Problem(x, empty, self._features(nodes, x), recipe)
        layer = self.inversion_layer or self.layer or nodes.last_maps(x[0])
        compute = nodes.activations([layer])
        error = inversion_error(problem, lambda inputs: compute(inputs)[layer])
        first = optimise(problem, Course.at_the_start(problem), error, 0)
        # From here on, one row for each target of each item.
        rows = torch.arange(len(x), device=x.device).repeat_interleave(len(targets))
        of_targets, last = problem.of_rows(rows), first.of_rows(rows)
        values = _values_of_rows(nodes, items, len(targets))
        if self.stage == 2:
            last = optimise(of_targets, last, contrast(of_targets, values), 1)
        return _maps(problem.masks(first.weights)[:, 0], of_targets, last, values, targets)

    def _features(self, nodes: Nodes, x: Tensor) -> Tensor:
        """Activations (items, channels, *units) of the layer that makes the masks."""
        layer = self.layer or nodes.last_maps(x[0])
        with torch.no_grad():
            found = nodes.activations([layer])(x)[layer]
        if found.ndim != x.ndim or max(found.shape[2:]) < 2:
            raise InputError(
                f"layer '{layer}' has activations of shape {tuple(found.shape[1:])}, which are not "
                "feature maps of several units, so they cannot make a mask; choose another `layer` "
                "(`preddiff layers`)"
            )
        return found

    def _background(self, x: Tensor, seed: int) -> Tensor:
        """What replaces the removed part of an item (channels, *space)."""
        if self.background == "grey":
            return torch.zeros_like(x)
        if self.background == "blur":
            return blurred(x, self.blur or max(_LEAST_BLUR, _BLUR * min(x.shape[1:]) / _SIDE))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
        space = tuple(range(1, x.ndim))
        return x.mean(space, keepdim=True) + x.std(space, keepdim=True) * noise


@dataclass(frozen=True)
class Problem:
    """Inputs whose masks are sought, one row per mask.

    Attributes
    ----------
    x, empty : tensor (rows, channels, *space)
        Inputs, and the background p that replaces their removed parts.
    features : tensor (rows, channels of the layer, *units)
        Activations f(x) of the layer that makes the masks.
    recipe : Recipe
    """

    x: Tensor
    empty: Tensor
    features: Tensor
    recipe: Recipe

    def of_rows(self, rows: Tensor) -> "Problem":
        """Repeat rows, for several masks of an input."""
        return replace(self, x=self.x[rows], empty=self.empty[rows], features=self.features[rows])

    def masks(self, weights: Tensor) -> Tensor:
        """Masks (rows, 1, *space) of weights (rows, channels); see `masks_of`."""
        return masks_of(weights, self.features, self.x.shape[2:], self.recipe.scaled_last)

    def kept(self, mask: Tensor) -> Tensor:
        """Inputs of which only the masked part is kept: Phi(x, m) = x m + p (1 - m)."""
        return self.x * mask + self.empty * (1 - mask)

    def without(self, mask: Tensor) -> Tensor:
        """Inputs without the masked part: Phi_bg(x, m) = x (1 - m) + p m."""
        return self.x * (1 - mask) + self.empty * mask


def masks_of(weights: Tensor, features: Tensor, space: Sequence[int], scaled_last: bool) -> Tensor:
    """Compute masks m = sum_i w_i f_i(x), scaled to [0, 1] and upsampled linearly.

    Parameters
    ----------
    weights : tensor (rows, channels)
    features : tensor (rows, channels, *units)
    space : sequence of int
        Shape of the masks.
    scaled_last : bool
        False: (m - min) / (max - min), then upsampled (the paper). True: upsampled, then
        (m - min) / max (the authors' code), which is at most 1 - min / max.

    Returns
    -------
    tensor (rows, 1, *space)
        0 where the sum is constant, such as for weights that are all zero.
    """
    low = torch.einsum("rc,rc...->r...", weights, features)[:, None]
    axes = tuple(range(1, low.ndim))
    mode = "bilinear" if low.ndim == 4 else "trilinear"
    if scaled_last:
        mask = functional.interpolate(low, tuple(space), mode=mode, align_corners=False)
        return (mask - mask.amin(axes, keepdim=True)) / _or_inf(mask.amax(axes, keepdim=True))
    shifted = low - low.amin(axes, keepdim=True)
    scaled = shifted / _or_inf(shifted.amax(axes, keepdim=True))
    return functional.interpolate(scaled, tuple(space), mode=mode, align_corners=False)


def _or_inf(values: Tensor) -> Tensor:
    """Replace what is not positive by infinity, so that what is divided by it becomes zero."""
    return torch.where(values > 0, values, torch.inf)


def inversion_error(problem: Problem, function: Function) -> Function:
    """Return the first stage's error ||f(Phi) - f(x)||^2 as a function of masks.

    Parameters
    ----------
    problem : Problem
    function : callable
        Activations f of the inversion layer.
    """
    with torch.no_grad():
        wanted = function(problem.x)
    scale = wanted.square().flatten(1).sum(1) if problem.recipe.relative else 1.0

    def error(mask: Tensor) -> Tensor:
        return (function(problem.kept(mask)) - wanted).square().flatten(1).sum(1) / scale

    return error


def contrast(problem: Problem, values: Function) -> Function:
    """Return the second stage's loss -f_c(Phi) + lambda f_c(Phi_bg) as a function of masks.

    Parameters
    ----------
    problem : Problem
    values : callable
        Value f_c of each row's target.
    """

    def loss(mask: Tensor) -> Tensor:
        return problem.recipe.removed * values(problem.without(mask)) - values(problem.kept(mask))

    return loss


@dataclass(frozen=True)
class Course:
    """Weights of channels, and how they were optimised, one row per mask.

    Attributes
    ----------
    weights : tensor (rows, channels)
        Not negative.
    losses : tensor (rows, steps)
        Loss with its penalty before each step so far.
    stuck : bool tensor (rows,)
        Whether a step was not taken, because all weights would have become zero.
    moments : tuple of tensor (rows, channels)
        Adam's moments.
    """

    weights: Tensor
    losses: Tensor
    stuck: Tensor
    moments: tuple[Tensor, Tensor]

    @classmethod
    def at_the_start(cls, problem: Problem) -> "Course":
        """Equal weights, before the first step."""
        rows, channels = problem.features.shape[:2]
        weights = torch.full((rows, channels), _FIRST, device=problem.x.device)
        none = torch.zeros_like(weights)
        return cls(weights, none[:, :0], none[:, 0] > 0, (none, none))

    def of_rows(self, rows: Tensor) -> "Course":
        """Repeat rows, for several masks of an input."""
        first, second = self.moments
        return Course(
            self.weights[rows], self.losses[rows], self.stuck[rows], (first[rows], second[rows])
        )


def optimise(problem: Problem, start: Course, loss: Function, stage: int) -> Course:
    """Minimise a loss of masks and the penalty by Adam, clipping weights to w >= 0 at every step.

    Masks do not depend on the scale of the weights, so that the penalty alone shrinks them. A step
    that would make all weights of a row zero, or its mask constant, is not taken.

    Parameters
    ----------
    problem : Problem
    start : Course
    loss : callable
        Loss (rows,) of masks (rows, 1, *space).
    stage : {0, 1}

    Returns
    -------
    Course
    """
    recipe = problem.recipe
    weights = start.weights.clone().requires_grad_()
    adam = torch.optim.Adam([weights], lr=recipe.rate)
    if recipe.one_adam:
        first, second = (moment.clone() for moment in start.moments)
        done = torch.tensor(float(start.losses.shape[1]))
        adam.state[weights] = {"step": done, "exp_avg": first, "exp_avg_sq": second}
    losses, stuck = [start.losses], start.stuck
    for step in range(recipe.steps[stage]):
        value = loss(problem.masks(weights)) + recipe.penalty(weights, stage)
        losses.append(value.detach()[:, None].to(start.losses))
        (weights.grad,) = torch.autograd.grad(value.sum(), weights)
        adam.param_groups[0]["lr"] = recipe.rate_of(step, stage)
        before = weights.detach().clone()
        adam.step()
        with torch.no_grad():
            weights.clamp_(min=0)
            constant = problem.masks(weights).flatten(1).amax(1) <= 0
            lost = constant | (weights.amax(1) <= _ZERO)
            weights[lost] = before[lost]
        stuck = stuck | lost
    state = adam.state[weights]
    moments = (state["exp_avg"], state["exp_avg_sq"])
    return Course(weights.detach(), torch.cat(losses, 1), stuck, moments)


def _values_of_rows(nodes: Nodes, items: Sequence[str], targets: int) -> Function:
    """Value of each row's target, for one row per item and target."""
    names = [item for item in items for _ in range(targets)]

    def compute(inputs: Tensor) -> Tensor:
        own = torch.arange(targets, device=inputs.device).repeat(len(items))
        return nodes.of_items(inputs, names).gather(1, own[:, None])[:, 0]

    return compute


def _maps(
    first: Tensor, problem: Problem, last: Course, values: Function, targets: Sequence[Target]
) -> list[Maps]:
    """Collect the results of each item; `first` are the first stage's masks (items, *space)."""
    with torch.no_grad():
        masks = problem.masks(last.weights)
        intact, kept, removed = (
            values(inputs) for inputs in (problem.x, problem.kept(masks), problem.without(masks))
        )
    found = []
    for number, mask in enumerate(first):
        rows = slice(number * len(targets), (number + 1) * len(targets))
        extras = {
            "first_stage": mask,
            "weights": last.weights[rows],
            "loss": last.losses[rows],
            "kept": kept[rows],
            "removed": removed[rows],
            "stuck": last.stuck[rows].double(),
        }
        notes = _notes(extras, targets, problem.recipe.steps[0])
        relevance = masks[rows, 0]
        found.append(
            Maps(intact[rows], relevance, torch.zeros_like(relevance), extras, tuple(notes))
        )
    return found


def _notes(extras: dict[str, Tensor], targets: Sequence[Target], first_steps: int) -> list[str]:
    """Say which masks are degenerate, have not converged, or do not keep their target."""
    notes = []
    for row, target in enumerate(targets):
        where = f"target '{target}'"
        if extras["stuck"][row]:
            notes.append(
                f"{where}: the penalty would have made all weights zero, so that steps were left "
                "out; lower `sparsity`"
            )
        course = extras["loss"][row, first_steps:]
        if len(course) > 2 * _LAST:
            fall, end = course[0] - course[-1], course[-_LAST - 1] - course[-1]
            if end > _SHARE * fall > 0:
                notes.append(
                    f"{where}: the loss was still falling in the last {_LAST} steps (by "
                    f"{float(end / fall):.0%} of its fall); raise `steps`"
                )
        kept, removed = float(extras["kept"][row]), float(extras["removed"][row])
        if kept <= removed:
            notes.append(
                f"{where}: its value with the masked part only ({kept:.3g}) is not above that "
                f"without it ({removed:.3g}), so the mask does not show what the target needs"
            )
    return notes
