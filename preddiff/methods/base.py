"""Base class and registry of the kinds of methods, and the maps that they return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from preddiff.classifiers.held_out import HELD_OUT
from preddiff.errors import InputError
from preddiff.registry import Registry
from preddiff.settings.base import ItemName, Name, Positive, Settings
from preddiff.storage.maps import Extra
from preddiff.targets import Target, check_target


class Nodes(Protocol):
    """The targets of a classifier, as differentiable functions of its input."""

    @property
    def network(self) -> nn.Module:
        """Module behind the targets, whose layers libraries can look into.

        It takes inputs (n, channels, *space); what it returns is up to the classifier.
        """
        ...

    def activations(self, layers: Sequence[str]) -> Callable[[Tensor], dict[str, Tensor]]:
        """Return a differentiable function from inputs to the activations of some layers.

        It evaluates the network only as far as needed.

        Raises
        ------
        InputError
            If there is no such layer, or the network cannot be traced.
        """
        ...

    def last_maps(self, x: Tensor) -> str:
        """Name the last layer with feature maps before pooling, for an input (channels, *space).

        Raises
        ------
        InputError
            If there is none, or the network cannot be traced.
        """
        ...

    def folded(self) -> "Nodes":
        """Return the same nodes in the form that takes least time, which changes rounding only."""
        ...

    def hookable(self, layer: str | None = None) -> "Nodes":
        """Return the same nodes over a copy of the network that hooks of libraries fit.

        In the copy, nothing is changed in place, and each layer is a module that is evaluated once.
        If a layer is named, the submodule `tap` of the copy returns its activations.

        Raises
        ------
        InputError
            If there is no such layer, or the network cannot be traced.
        """
        ...

    def __call__(self, x: Tensor, item: str) -> Tensor:
        """Compute the values of the targets.

        Parameters
        ----------
        x : tensor (n, channels, *space)
            Variants of one item, standardised for the classifier.
        item : str
            Name of the item, on which the class of targets such as `probability:top-1` depends.

        Returns
        -------
        float64 tensor (n, targets)
        """
        ...

    def of_items(self, x: Tensor, items: Sequence[str]) -> Tensor:
        """Compute the values of the targets for variants of several items, in one pass.

        Parameters
        ----------
        x : tensor (n, channels, *space)
        items : sequence of str
            Name of the item of each input.

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
        Standard error of the relevance; 0 if it is exact.
    extras : mapping of str to tensor
        Further results, as the method's `extras` declares them.
    notes : tuple of str
        What a user should know about these maps, such as an optimisation that did not converge.
    """

    values: Tensor
    relevance: Tensor
    stderr: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def exact(cls, values: Tensor, relevance: Tensor) -> "Maps":
        """Maps without random error."""
        return cls(values, relevance, torch.zeros_like(relevance))


class TargetSettings(Settings):
    """Which targets of which items are explained, and by which models."""

    targets: list[str] | None = Field(
        None,
        description="targets to explain: probability:CLASS, logit:CLASS (CLASS: a name, a number, "
        "true, top-1, top-2, ...), layer:NAME for all feature maps of a layer, layer:NAME:0,7 for "
        "some of them; value:NAME of classifiers without probabilities; default: the value, the "
        "last one of several; the probability of the last class for linear classifiers; for "
        "networks probability:top-1, but what their papers explain for methods sensitivity and "
        "captum (logit:top-1) and concepts (layer:xnn.contributions)",
        min_length=1,
    )
    items: list[ItemName] | Positive | None = Field(
        None,
        description="names of the items to explain, or N for the first N items; default: all "
        "volumes, or all images that are not used for training (all images if all are used)",
    )
    held_out: bool = Field(
        False,
        description="explain each training item by the model of its fold in the cross-validation, "
        "which has not seen it, instead of the model of all training items; for classifiers that "
        "the study cross-validates",
    )

    @property
    def about_models(self) -> dict[str, bool]:
        """What provenances say of the models by which items are seen; nothing if it is one."""
        return {HELD_OUT: True} if self.held_out else {}

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

    A method either redraws windows and fills an expectation store block by block
    (`redraws_windows`), or computes the maps of an item in one call of `maps`.

    Attributes
    ----------
    redraws_windows : bool
    is_random : bool
        Whether maps depend on a seed.
    needs_layers : bool
        Whether it explains classifiers with hidden layers only.
    shows_evidence : bool
        Whether maps show evidence for (positive) and against (negative) a target, instead of
        magnitudes.
    has_first_stage : bool
        Whether stores also contain `first_stage`, maps of a stage before, the same for all targets.
    default_target : str
        Default target of classifiers that rank classes.
    seconds_per_item : float
        Rough time that a machine without a GPU takes for an item, for the size of jobs.
    not_in_provenance : tuple of str
        Settings that do not change maps, or whose effect the provenance contains otherwise.
    """

    redraws_windows: ClassVar[bool] = False
    is_random: ClassVar[bool] = False
    needs_layers: ClassVar[bool] = False
    shows_evidence: ClassVar[bool] = True
    has_first_stage: ClassVar[bool] = False
    default_target: ClassVar[str] = "probability:top-1"
    seconds_per_item: ClassVar[float] = 1.0
    not_in_provenance: ClassVar[tuple[str, ...]] = (
        "classifier",
        "dataset",
        "items",
        "held_out",
        "targets",
        "device",
        "items_per_job",
        "nifti",
    )

    classifier: Name = Field(description="name of the classifier")
    dataset: Name | None = Field(
        None,
        description="dataset whose items are explained; default: the dataset that the classifier "
        "is trained on",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device that networks run on; auto uses a GPU if there is one"
    )
    items_per_job: Positive | None = Field(
        None,
        description="number of items per job, which does not change results; default: about one "
        "hour of work",
    )
    nifti: bool = Field(
        False, description="write the relevance as NIfTI files, one per subject and target"
    )

    @property
    def sampler_name(self) -> str | None:
        """Name of the sampler that redraws windows; None if it needs none."""
        return None

    @property
    def window_side(self) -> int:
        """Side of the windows, in voxels; 1 if single voxels are explained."""
        return 1

    def input_files(self) -> list[Path]:
        """List the user's files that it depends on."""
        return []

    @property
    def named_layers(self) -> list[str]:
        """Layers that the settings name, which the classifier must have."""
        return []

    @property
    def items_per_batch(self) -> int:
        """Number of items that `maps_of_batch` is given at a time."""
        return 1

    @property
    def code(self) -> Sequence[str]:
        """Definitions, besides its class, that the maps depend on: roots of `digest_code`."""
        return ()

    def provenance(self) -> dict[str, Any]:
        """Return the settings that the maps depend on, for the provenance of a relevance store."""
        return self.model_dump(mode="json", exclude=set(self.not_in_provenance))

    def extras(self, nodes: Nodes, shape: tuple[int, ...], targets: int) -> dict[str, Extra]:
        """Declare further arrays that `maps` returns, by name.

        Parameters
        ----------
        nodes : Nodes
        shape : tuple of int
            Shape (channels, *space) of an item.
        targets : int
            Number of targets.
        """
        return {}

    def prepared(self, nodes: Nodes) -> Nodes:
        """Return the form of the nodes that `maps` is given; called once for all items."""
        return nodes

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Compute the maps of an item, for methods that do not redraw windows.

        Parameters
        ----------
        nodes : Nodes
        x : tensor (channels, *space)
            The intact item, standardised, on the classifier's device.
        item : str
        targets : sequence of Target
            Targets whose values `nodes` returns, in this order.
        seed : int
            Random seed of this item.

        Returns
        -------
        Maps
        """
        raise NotImplementedError

    def maps_of_batch(
        self,
        nodes: Nodes,
        x: Tensor,
        items: Sequence[str],
        targets: Sequence[Target],
        seeds: Sequence[int],
    ) -> list[Maps]:
        """Compute the maps of several items; methods that gain by it override this.

        Parameters
        ----------
        nodes : Nodes
        x : tensor (items, channels, *space)
        items : sequence of str
        targets : sequence of Target
        seeds : sequence of int
            Random seed of each item.

        Returns
        -------
        list of Maps
            One for each item, which does not depend on the others.
        """
        return [
            self.maps(nodes, one, item, targets, seed)
            for one, item, seed in zip(x, items, seeds, strict=True)
        ]


class BatchMethodSettings(MethodSettings):
    """An explanation by a method that computes the maps of several items side by side."""

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Compute the maps of a batch of one item."""
        (found,) = self.maps_of_batch(nodes, x[None], [item], targets, [seed])
        return found


METHODS: Registry[type[MethodSettings]] = Registry(
    "preddiff.methods", key="method", default="prediction-difference"
)
