"""Masks made of the channels of a layer, and the optimisation of their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

# Differentiable function of inputs (rows, channels, *space), or of masks (rows, 1, *space).
Function = Callable[[Tensor], Tensor]

# Weight of every channel at the start.
_FIRST = 0.1
# Below this, all weights count as zero: a step of Adam is ten thousand times as long.
_ZERO = 1e-6
# Steps after which the learning rate is halved.
_HALVED_AFTER = 10


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
