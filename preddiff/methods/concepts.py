"""Concepts: where the features of an explanation network are, by excitation backpropagation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from preddiff.classifiers.excitation import Excitation, shares
from preddiff.classifiers.layers import OUTPUT
from preddiff.errors import InputError
from preddiff.methods.base import METHODS, Maps, MethodSettings, Nodes
from preddiff.targets import Target

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


@METHODS.register
class Concepts(MethodSettings):
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

    def provenance(self) -> dict[str, object]:
        """Layer at which backpropagation stops."""
        return {"layer": self.layer}

    def maps(
        self, nodes: Nodes, x: Tensor, item: str, targets: Sequence[Target], seed: int
    ) -> Maps:
        """Compute one map per target, non-negative and with the sum 1."""
        if not isinstance(nodes, _Layered):
            raise InputError(
                "method concepts needs a classifier with layers, such as an explanation network: "
                "choose another classifier, or another method"
            )
        starts = [
            (target.layer, target.number) if target.kind == "map" else (OUTPUT, number)
            for target, number in zip(targets, nodes.classes[item], strict=True)
        ]
        with torch.no_grad():
            values = nodes(x[None].clone(), item)[0]
        found = concept_maps(nodes.module, x, starts, self.layer)
        notes = tuple(
            f"target '{target}': no excitation reaches the layer, so that its map is 0"
            for target, one in zip(targets, found, strict=True)
            if not one.any()
        )
        return Maps(values, found, torch.zeros_like(found), notes=notes)


def concept_maps(
    network: nn.Module, x: Tensor, starts: Sequence[tuple[str, int]], stop: str | None = None
) -> Tensor:
    """Compute maps of units of a network by excitation backpropagation.

    The probability 1 of a unit is passed down to the feature maps of a layer (`Excitation`), summed
    over its channels, and interpolated to the input (bilinear or trilinear). Each map is then
    divided by its sum, since interpolation, and units that nothing excites, change it.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    x : tensor (channels, *space)
        Standardised input, on the network's device.
    starts : sequence of (str, int)
        Layer, or `OUTPUT`, and unit of each map. A class's probability and logit start at its
        logit. The unit itself need not be active.
    stop : str, optional
        Layer at which backpropagation stops, as in `Excitation`.

    Returns
    -------
    tensor (maps, *space)
        Each is not negative and has the sum 1, or is 0 if nothing excites the unit.

    Raises
    ------
    InputError
        As `Excitation` does.
    """
    runs = {layer: Excitation(network, x[None], layer, stop) for layer, _ in starts}
    coarse = []
    for layer, number in starts:
        start = torch.zeros_like(runs[layer].units)
        start[:, number] = 1
        coarse.append(runs[layer](start))
    space = x.shape[1:]
    mode: Any = _INTERPOLATION[len(space)]
    fine = [
        functional.interpolate(one[None], size=space, mode=mode, align_corners=False)[0]
        for one in coarse
    ]
    return shares(torch.cat(fine).double())
