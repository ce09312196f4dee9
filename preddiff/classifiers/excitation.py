"""Excitation backpropagation from the units of a layer to the feature maps of an earlier one."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from preddiff.classifiers.excitation_rules import Rule, rule_of, share
from preddiff.classifiers.layers import OUTPUT, node_of, spatial_means, traced_nodes
from preddiff.errors import InputError

_MEANS = Rule(spatial_means, by_activation=True, needs_positive=True)
# Largest number of layers that a message suggests.
_SUGGESTED = 3


class Excitation:
    """Excitation backpropagation for a batch of inputs (Zhang et al., ECCV 2016; IJCV 2018).

    The winning probability p_i of a unit i is passed on to its inputs x_j in proportion to how much
    they excite it (their equation 5): p_j = x_j sum_i w+_ij p_i / sum_k w+_ik x_k, with w+ the
    positive weights. Biases are left out, so that the sum of p is conserved from layer to layer,
    except where nothing excites a unit. See `rule_of` for other operations.

    Parameters
    ----------
    network : nn.Module
        In eval mode, and traceable by torch.fx.
    x : tensor (n, channels, *space)
        Inputs, on the network's device.
    start : str
        Layer whose units are explained, named as in `WithMeans`; `OUTPUT` for the logits. The units
        of a layer with spatial axes are the means of its feature maps.
    stop : str, optional
        Layer at which backpropagation stops. Default: the last layer, up to `start` itself, that
        has spatial axes, more than one unit per map, and activations that are never negative.
    traced : (GraphModule, mapping of str to Node), optional
        What `traced_nodes` returns for the network, if it is known already.

    Attributes
    ----------
    units : tensor (n, units)
        Activations of `start`.
    stop : str
        Layer at which backpropagation stops.
    space : tuple of int
        Shape of that layer's feature maps.

    Raises
    ------
    InputError
        If there is no such layer, `start` does not depend on `stop`, or an operation between them
        has no rule or reads negative activations.
    """

    def __init__(
        self,
        network: nn.Module,
        x: Tensor,
        start: str,
        stop: str | None = None,
        traced: tuple[fx.GraphModule, Mapping[str, fx.Node]] | None = None,
    ) -> None:
        graph, names = traced or traced_nodes(network)
        known = _Graph(graph, names, x)
        self._first = known.output if start == OUTPUT else node_of(start, names)
        start = "the logits" if start == OUTPUT else f"layer '{start}'"
        self._last = (
            _default_stop(known, self._first, start)
            if stop is None
            else _checked_stop(known, self._first, start, node_of(stop, names), stop)
        )
        self.stop = known.name(self._last)
        self._map: Tensor = known.values[self._last]
        self.space = tuple(self._map.shape[2:])
        path = known.between(self._last, self._first)
        self._path = set(path)
        # From the start down, so that the first failure is that of the latest layer.
        self._steps = {
            node: _step(known, node, self._first)
            for node in reversed(path)
            if node is not self._last
        }
        self.units: Tensor = known.values[self._first]
        self._means = None
        if self.units.ndim > 2:
            _require_positive(known, self.units, f"the means of the maps of {start}", [])
            self._means = _Step.of(_MEANS, [self._first], (self._first,), {}, known.values)
            self.units = self._means.output.detach()

    def __call__(self, p: Tensor) -> Tensor:
        """Pass winning probabilities down to the layer at which backpropagation stops.

        Parameters
        ----------
        p : tensor (n, units)
            Probability of each unit of the start.

        Returns
        -------
        tensor (n, *space)
            Sums over the channels of that layer, not negative. Their sum over space is that of p,
            less what is lost at units that nothing excites, or bypasses the layer.
        """
        found = {self._first: p.to(self.units) if self._means is None else self._means(p)[0]}
        for node, step in self._steps.items():
            if node not in found:
                continue
            for source, part in zip(step.sources, step(found.pop(node)), strict=True):
                if source in self._path:
                    found[source] = found[source] + part if source in found else part
        return found.get(self._last, torch.zeros_like(self._map)).sum(1)


class _Graph:
    """A traced network, with the values of its nodes for a batch."""

    def __init__(self, graph: fx.GraphModule, names: Mapping[str, fx.Node], x: Tensor) -> None:
        self._modules = dict(graph.named_modules())
        self._names = {node: name for name, node in names.items()}
        self._nodes = list(graph.graph.nodes)
        (end,) = (node for node in self._nodes if node.op == "output")
        self.output: fx.Node = end.args[0]
        recorder = _Recorder(graph)
        with torch.no_grad():
            recorder.run(x)
        self.values = recorder.values
        self.dependent: set[fx.Node] = set()
        for node in self._nodes:
            depends = node.op == "placeholder" or self.dependent.intersection(node.all_input_nodes)
            if depends and _has_tensors(self.values.get(node)):
                self.dependent.add(node)

    def name(self, node: fx.Node) -> str:
        return self._names.get(node, str(node))

    def described(self, node: fx.Node) -> str:
        """Name and operation of a node."""
        what = (
            type(self._modules[str(node.target)]).__name__
            if node.op == "call_module"
            else getattr(node.target, "__name__", str(node.target))
        )
        return f"layer '{self.name(node)}' ({what})"

    def rule(self, node: fx.Node) -> Rule | None:
        return rule_of(node, self._modules, self.dependent)

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """Inputs of a node that depend on the network's input."""
        return [one for one in node.all_input_nodes if one in self.dependent]

    def before(self, node: fx.Node) -> list[fx.Node]:
        """Nodes that a node depends on, and itself, in the graph's order."""
        found = {node}
        for one in reversed(self._nodes):
            if one in found:
                found.update(self.sources(one))
        return [one for one in self._nodes if one in found]

    def between(self, first: fx.Node, last: fx.Node) -> list[fx.Node]:
        """Nodes on the paths from the first to the last, both included, in the graph's order."""
        after = {first}
        for node in self._nodes:
            if after.intersection(self.sources(node)):
                after.add(node)
        return [node for node in self.before(last) if node in after]

    def fitting(self, among: Collection[fx.Node]) -> list[fx.Node]:
        """Layers with maps of several units that can never be negative, in the graph's order."""
        return [
            node
            for node in self._nodes
            if node in among and node in self._names
            if _has_map(self.values[node]) and self._is_positive(node, {})
        ]

    def suggested(self, among: Collection[fx.Node]) -> str:
        names = [f"'{self.name(node)}'" for node in self.fitting(among)[-_SUGGESTED:]]
        return f"stop at another layer, such as {', '.join(names)}" if names else "no layer fits"

    def _is_positive(self, node: fx.Node, known: dict[fx.Node, bool]) -> bool:
        """Whether a node's operations exclude negative values."""
        if node not in known:
            rule = self.rule(node)
            known[node] = rule is not None and (
                rule.sign == "positive"
                or (
                    rule.sign == "kept"
                    and all(self._is_positive(s, known) for s in self.sources(node))
                )
            )
        return known[node]


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of every node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def _has_tensors(value: Any) -> bool:
    """Whether a value has tensors of numbers, unlike sizes."""
    if isinstance(value, list | tuple):
        return any(_has_tensors(one) for one in value)
    return isinstance(value, Tensor) and value.is_floating_point()


def _has_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (4, 5) and math.prod(value.shape[2:]) > 1


def _default_stop(known: _Graph, first: fx.Node, start: str) -> fx.Node:
    fitting = known.fitting(known.before(first))
    if not fitting:
        raise InputError(
            f"excitation backpropagation: {start}: it depends on no layer with feature maps that "
            "are never negative, such as those after a ReLU"
        )
    return fitting[-1]


def _checked_stop(known: _Graph, first: fx.Node, start: str, last: fx.Node, stop: str) -> fx.Node:
    before = known.before(first)
    if last not in before:
        problem = f"{start} does not depend on layer '{stop}'"
    elif not _has_map(known.values[last]):
        problem = f"layer '{stop}' has no feature maps of several units"
    else:
        return last
    raise InputError(f"excitation backpropagation: {problem}; {known.suggested(before)}")


@dataclass
class _Step:
    """The rule of an operation, with the values of a batch."""

    sources: list[fx.Node]
    leaves: list[Tensor]
    output: Tensor
    rule: Rule

    @classmethod
    def of(
        cls,
        rule: Rule,
        sources: list[fx.Node],
        args: Any,
        kwargs: Any,
        values: Mapping[fx.Node, Any],
    ) -> "_Step":
        leaves = {one: values[one].detach().requires_grad_() for one in sources}

        def value(node: fx.Node) -> Any:
            if node in leaves:
                return leaves[node]
            found = values[node]
            if rule.fill is not None and isinstance(found, Tensor):
                return torch.full_like(found, rule.fill)
            return found

        with torch.enable_grad():
            output = rule.surrogate(*fx.node.map_arg(args, value), **fx.node.map_arg(kwargs, value))
        return cls(sources, list(leaves.values()), output, rule)

    def __call__(self, p: Tensor) -> list[Tensor]:
        """Pass winning probabilities on to the sources."""
        return share(self.output, self.leaves, p, self.rule)


def _step(known: _Graph, node: fx.Node, first: fx.Node) -> _Step:
    """Prepare the rule of a node on the paths to the first node of backpropagation."""
    rule, sources = known.rule(node), known.sources(node)
    later = known.between(node, first)
    if rule is None:
        raise InputError(
            f"excitation backpropagation has no rule for {known.described(node)}; "
            f"{known.suggested(later)}"
        )
    if rule.needs_positive:
        for source in sources:
            _require_positive(known, known.values[source], known.described(node), later)
    return _Step.of(rule, sources, node.args, node.kwargs, known.values)


def _require_positive(known: _Graph, values: Tensor, what: str, later: Sequence[fx.Node]) -> None:
    if bool((values < 0).any()):
        raise InputError(
            f"excitation backpropagation: signed activations at the input of {what}, where they "
            "must not be negative, as after a ReLU. Linear bottlenecks are signed, so that only "
            f"the last layers of a MobileNetV2 fit; {known.suggested(later)}"
        )


def shares(mass: Tensor) -> Tensor:
    """Divide non-negative maps (..., *any) by their sum per row of the first axis; 0 stays 0.

    Parameters
    ----------
    mass : tensor (n, ...)
    """
    total = mass.flatten(1).sum(1).reshape(-1, *(1,) * (mass.ndim - 1))
    return torch.where(total > 0, mass / torch.where(total > 0, total, 1), 0)
