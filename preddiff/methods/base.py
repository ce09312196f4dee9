"""What methods have in common: which targets of which items they explain, and what they return."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor

from preddiff.errors import InputError
from preddiff.registry import Registry
from preddiff.settings.base import ItemName, Name, Positive, Settings
from preddiff.targets import Target, check_target


class Nodes(Protocol):
    """The targets of a classifier, as functions of its inputs that can be differentiated."""

    def __call__(self, x: Tensor, item: str) -> Tensor:
        """Values of the targets.

        Parameters
        ----------
        x : tensor (n, channels, *space)
            Inputs, standardised as the classifier wants them: variants of one item.
        item : str
            Name of the item, which tells the classes of targets such as `probability:top-1`.

        Returns
        -------
        float64 tensor (n, targets)
        """
        ...


@dataclass(frozen=True)
class Maps:
    """Maps of one item.

    Attributes
    ----------
    values : tensor (targets,)
        Values of the targets for the intact item.
    relevance : tensor (targets, *space)
    stderr : tensor (targets, *space)
        Standard error of the relevance; 0 where it is not estimated by chance.
    """

    values: Tensor
    relevance: Tensor
    stderr: Tensor

    @classmethod
    def exact(cls, values: Tensor, relevance: Tensor) -> "Maps":
        """Maps that do not depend on chance."""
        return cls(values, relevance, torch.zeros_like(relevance))


class TargetSettings(Settings):
    """Which nodes of which items are explained."""

    targets: list[str] | None = Field(
        None,
        description="nodes to explain: probability:CLASS, logit:CLASS (CLASS: a name, a number, "
        "true, top-1, top-2, ...), layer:NAME for every feature map of a layer, layer:NAME:0,7 for "
        "some; default: the probability of a cohort's second class, or of the top class",
        min_length=1,
    )
    items: list[ItemName] | Positive | None = Field(
        None,
        description="names of the items to explain, or how many of the first; default: all of a "
        "cohort, all images that are not for training only",
    )

    @field_validator("items")
    @classmethod
    def _not_empty(cls, items: list[str] | int | None) -> list[str] | int | None:
        if items == []:
            raise ValueError("name at least one item")
        return items

    @field_validator("targets")
    @classmethod
    def _readable(cls, targets: list[str] | None) -> list[str] | None:
        for target in targets or []:
            try:
                check_target(target)
            except InputError as error:
                raise ValueError(str(error)) from None
        return targets


class MethodSettings(TargetSettings):
    """An explanation: a dataset, a classifier, a method and its settings.

    A kind of method either redraws windows, and fills a store of expectations block by block
    (`redraws_windows`), or makes the maps of an item in one go, by `maps`.

    Attributes
    ----------
    redraws_windows : bool
    shows_evidence : bool
        Whether maps are for (positive) and against (negative) a target, and not magnitudes.
    default_target : str
        Target of classifiers that rank classes, if none is named.
    """

    redraws_windows: ClassVar[bool] = False
    shows_evidence: ClassVar[bool] = True
    default_target: ClassVar[str] = "probability:top-1"

    classifier: Name = Field(description="name of the classifier")
    dataset: Name | None = Field(
        None,
        description="dataset whose items are explained; default: the one that the classifier was "
        "trained on",
    )

    @property
    def sampler_name(self) -> str | None:
        """Name of the sampler that redraws windows, if it needs one."""
        return None

    @property
    def window_side(self) -> int:
        """Side of the windows, in voxels; 1 where single voxels are explained."""
        return 1

    def input_files(self) -> list[Path]:
        """The user's files that it is made from."""
        return []

    @property
    def code(self) -> Sequence[str]:
        """Definitions, beside its class, that the maps depend on: roots of `digest_code`."""
        return ()

    def provenance(self) -> dict[str, object]:
        """Settings that the maps depend on, for a relevance store's provenance."""
        return {}

    def maps(self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target]) -> Maps:
        """Maps of an item, for methods that do not redraw windows.

        Parameters
        ----------
        nodes : Nodes
        x : tensor (channels, *space)
            The intact item, standardised, on the classifier's device.
        item : str
        targets : sequence of Target
            What `nodes` gives, in this order.

        Returns
        -------
        Maps
        """
        raise NotImplementedError


METHODS: Registry[type[MethodSettings]] = Registry(
    "preddiff.methods", key="method", default="prediction-difference"
)
