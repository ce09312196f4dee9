"""Concepts: where the features of an explanation network are, by excitation backpropagation."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from preddiff.classifiers.excitation import Excitation, shares
from preddiff.classifiers.layers import OUTPUT, traced_nodes
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, BatchMethodSettings, Maps, Nodes
from preddiff.targets import Target

# Items for which the network is traced once.
_ITEMS_PER_BATCH = 8
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


@runtime_checkable
class _Layered(Protocol):
    """Nodes of a classifier with layers.

    Attributes
    ----------
    module : nn.Module
        Network whose layers have the names in targets.
    classes : mapping of str to sequence of int
        By item: the number of each target's class.
    """

    module: nn.Module
    classes: Mapping[str, Sequence[int]]

    def arithmetic(self) -> AbstractContextManager[None]:
        """Run the network in its precision."""


@METHODS.register
class Concepts(BatchMethodSettings):
    """Maps of the concepts of an explanation network (Qi, Khorram, Li 2017), or of any layer."""

    shows_evidence: ClassVar[bool] = False
    needs_layers: ClassVar[bool] = True
    default_target: ClassVar[str] = "layer:xnn.contributions"

    method: Literal["concepts"] = Field(description="concepts")
    layer: str | None = Field(
        None,
        description="layer at which excitation backpropagation stops, on whose grid maps are "
        "computed; default: the last layer before the target with feature maps of several units "
        "that are never negative, such as those after a ReLU",
        min_length=1,
    )

    @property
    def named_layers(self) -> list[str]:
        """The layer, if it is set."""
        return [] if self.layer is None else [self.layer]

    @property
    def items_per_batch(self) -> int:
        """Number of items for which the network is traced once."""
        return _ITEMS_PER_BATCH

    def maps_of_batch(
        self,
        nodes: Nodes,
        x: Tensor,
        items: Sequence[str],
        targets: Sequence[Target],
        seeds: Sequence[int],
    ) -> list[Maps]:
        """Compute maps that are not negative and sum to 1; the network is traced once."""
        if not isinstance(nodes, _Layered):
            raise InputError(
                "method concepts needs a classifier with layers, such as an explanation network: "
                "choose another classifier, or another method"
            )
        starts = [
            (target.layer, [target.number] * len(items))
            if target.kind == "map"
            else (OUTPUT, [nodes.classes[item][column] for item in items])
            for column, target in enumerate(targets)
        ]
        with nodes.arithmetic():
            found = concept_maps(nodes.module, x, starts, self.layer)
        with torch.no_grad():
            return [
                Maps(
                    nodes(one[None].clone(), item)[0],
                    maps,
                    torch.zeros_like(maps),
                    notes=_notes(targets, maps),
                )
                for one, item, maps in zip(x, items, found, strict=True)
            ]


def _notes(targets: Sequence[Target], maps: Tensor) -> tuple[str, ...]:
    return tuple(
        f"target '{target}': no excitation reaches the layer, so that its map is 0"
        for target, one in zip(targets, maps, strict=True)
        if not one.any()
    )


def concept_maps(
    network: nn.Module,
    x: Tensor,
    starts: Sequence[tuple[str, Sequence[int]]],
    stop: str | None = None,
) -> Tensor:
    """Compute maps of units of a network by excitation backpropagation.

    The probability 1 of a unit is passed down to the feature maps of a layer (`Excitation`), summed
    over its channels, and interpolated to the input (bilinear or trilinear). Each map is then
    divided by its sum, since interpolation, and units that nothing excites, change it.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    x : tensor (n, channels, *space)
        Standardised inputs, on the network's device.
    starts : sequence of (str, sequence of int)
        For each map: the layer, or `OUTPUT`, and the number of the unit for each input. A class's
        probability and logit start at its logit. The unit itself need not be active.
    stop : str, optional
        Layer at which backpropagation stops, as in `Excitation`.

    Returns
    -------
    float64 tensor (n, maps, *space)
        Each is not negative and has the sum 1, or is 0 if nothing excites the unit.

    Raises
    ------
    InputError
        As `Excitation` does.
    """
    traced = traced_nodes(network)
    layers = dict.fromkeys(layer for layer, _ in starts)
    mode: Any = _INTERPOLATION[x.ndim - 2]
    found = []
    # One by one, so that the rounding of an item's maps does not depend on the other items.
    for row, one in enumerate(x[:, None]):
        runs = {layer: Excitation(network, one, layer, stop, traced) for layer in layers}
        maps = []
        for layer, numbers in starts:
            p = torch.zeros_like(runs[layer].units)
            p[0, numbers[row]] = 1
            coarse = runs[layer](p)[:, None]
            fine = functional.interpolate(coarse, size=x.shape[2:], mode=mode, align_corners=False)
            maps.append(shares(fine[:, 0].double()))
        found.append(torch.stack(maps, 1))
    return torch.cat(found)
