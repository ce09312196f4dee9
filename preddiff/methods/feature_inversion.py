"""Guided feature inversion: the smallest mask of an input that keeps what a class needs.

M. Du, N. Liu, Q. Song, X. Hu, "Towards explanation of DNN-based prediction with guided feature
inversion", KDD 2018, arXiv 1804.00506; the authors' code is mndu/guided-feature-inversion.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from preddiff.errors import InputError
from preddiff.methods.base import METHODS, BatchMethodSettings, Maps, Nodes
from preddiff.methods.channel_masks import Course, Function, Problem, Recipe, optimise
from preddiff.methods.fills import blurred
from preddiff.settings.base import Positive
from preddiff.storage.maps import Extra
from preddiff.targets import Target

Weight = Annotated[float, Field(ge=0)]
# The paper's blur and the side of its inputs; the least blur, in voxels.
_BLUR, _SIDE, _LEAST_BLUR = 11.0, 224, 2.0
# A loss has not converged if its last steps account for more than this share of its fall.
_LAST, _SHARE = 10, 0.1


PRESETS = {
    "paper": Recipe((10, 70), 0.01, (10.0, 1.0), 1.0, False, False, False, False),
    "code": Recipe((11, 69), 0.01, (5.0, 2.0), 1.0, True, True, True, True),
}


@METHODS.register
class FeatureInversion(BatchMethodSettings):
    """Guided feature inversion (Du et al. 2018): a mask made of the channels of a layer."""

    needs_layers: ClassVar[bool] = True
    shows_evidence: ClassVar[bool] = False
    seconds_per_item: ClassVar[float] = 8.0
    not_in_provenance: ClassVar[tuple[str, ...]] = (
        *BatchMethodSettings.not_in_provenance,
        "items_at_once",
    )

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
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether the background is random; the optimisation is not."""
        return self.background == "noise"

    @property
    def has_first_stage(self) -> bool:  # type: ignore[override]
        """Whether the first stage is followed by another one."""
        return self.stage == 2

    @property
    def named_layers(self) -> list[str]:
        """The layers that are set."""
        return [layer for layer in (self.layer, self.inversion_layer) if layer is not None]

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
        first = Extra(space, shape[1:], "mask of the first stage, for all targets")
        return {
            **({"first_stage": first} if self.has_first_stage else {}),
            "weights": Extra(("target", "channel"), (targets, channels), "weights of the channels"),
            "loss": Extra(("target", "step"), (targets, steps), "loss before each step"),
            **{name: Extra(("target",), (targets,), text) for name, text in per_target.items()},
        }

    def prepared(self, nodes: Nodes) -> Nodes:
        """Fold batch normalisations, since each item takes many passes."""
        return nodes.folded()

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
        masks = problem.masks(first.weights)[:, 0] if self.has_first_stage else None
        return _maps(masks, of_targets, last, values, targets)

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
    scale = wanted.square().flatten(1).sum(1) if problem.recipe.relative else torch.ones(1)
    if not bool((scale > 0).all()):
        raise InputError(
            "all activations of the inversion layer are zero, so that there is no relative error; "
            "choose another `inversion_layer`, or `preset: paper`"
        )
    scale = scale.to(wanted)

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


def _values_of_rows(nodes: Nodes, items: Sequence[str], targets: int) -> Function:
    """Value of each row's target, for one row per item and target."""
    names = [item for item in items for _ in range(targets)]

    def compute(inputs: Tensor) -> Tensor:
        own = torch.arange(targets, device=inputs.device).repeat(len(items))
        return nodes.of_items(inputs, names).gather(1, own[:, None])[:, 0]

    return compute


def _maps(
    first: Tensor | None,
    problem: Problem,
    last: Course,
    values: Function,
    targets: Sequence[Target],
) -> list[Maps]:
    """Collect the results of each item.

    Parameters
    ----------
    first : tensor (items, *space), optional
        Masks of the first stage, if there is another one.
    problem : Problem
    last : Course
    values : callable
        Value of each row's target.
    targets : sequence of Target
    """
    with torch.no_grad():
        masks = problem.masks(last.weights)
        intact, kept, removed = (
            values(inputs) for inputs in (problem.x, problem.kept(masks), problem.without(masks))
        )
    found = []
    for number in range(len(intact) // len(targets)):
        rows = slice(number * len(targets), (number + 1) * len(targets))
        extras = {
            **({} if first is None else {"first_stage": first[number]}),
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
