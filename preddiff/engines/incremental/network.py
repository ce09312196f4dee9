"""A traced network that is evaluated on inputs which differ from an intact one in boxes only."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from preddiff.engines.incremental.boxes import Boxes, Changed, Intact
from preddiff.engines.incremental.operations import Operation, of_function, of_module
from preddiff.errors import InputError

# Whole maps are faster once boxes cover this share of them: nothing has to be gathered then.
_NEARLY_WHOLE = 0.75
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
# NumPy's names of arguments, which torch accepts too.
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}
# They need whole maps by their nature, which is not worth a message.
_FLATTENING = (torch.flatten, "flatten", "view", "reshape")


class IncrementalNetwork:
    """A traced network, evaluated on inputs that differ from an intact one in boxes.

    Parameters
    ----------
    graph : fx.GraphModule
        As `traced` makes it: gives a mapping of outputs, and no operation changes its input. It is
        taken over, and altered.

    Attributes
    ----------
    whole_map_operations : dict of str to str
        By node: operations that were computed on whole maps because it is not known how they act
        on boxes.

    Raises
    ------
    InputError
        If the outputs of an input depend on the other inputs of its batch.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = _fold_batch_norms(graph)
        self.modules = dict(self.graph.named_modules())
        self.nodes = list(self.graph.graph.nodes)
        self.operations = {node: self._operation(node) for node in self.nodes}
        self._last_use = {x: n for n in self.nodes for x in n.all_input_nodes}
        self.whole_map_operations: dict[str, str] = {}

    def intact(self, x: Tensor) -> dict[fx.Node, Any]:
        """Values of all nodes for an input (1, channels, *space)."""
        found: dict[fx.Node, Any] = {}
        for node in self.nodes:
            value = x if node.op == "placeholder" else self._evaluate(node, found)
            found[node] = Intact(value) if _has_maps(value) else value
        return found

    def reference(self, intact: Mapping[fx.Node, Any]) -> dict[str, Tensor]:
        """Outputs for the intact input itself, of which `intact` holds the values of all nodes."""
        found: dict[str, Tensor] = intact[self.nodes[-1]]
        return found

    def outputs(
        self, intact: Mapping[fx.Node, Any], values: Tensor, boxes: Boxes
    ) -> dict[str, Tensor]:
        """Outputs for variants of the input.

        Parameters
        ----------
        intact : mapping
            What the method `intact` gave for the input.
        values : tensor (windows * draws, channels, *boxes.size)
            New values of the boxes, all draws of the first window first.
        boxes : Boxes
            One box of the input for each window.

        Returns
        -------
        mapping of str to tensor (windows * draws, ...)
        """
        found: dict[fx.Node, Any] = {}
        for node in self.nodes:
            if node.op == "placeholder":
                found[node] = Changed(intact[node], values, boxes)
            elif node.op == "output":
                return self._evaluate(node, found)
            elif any(x in found for x in node.all_input_nodes):
                found[node] = self._value(node, found, intact)
            for x in node.all_input_nodes:
                if self._last_use[x] is node:
                    found.pop(x, None)
        raise AssertionError("a graph ends with its output")

    def _operation(self, node: fx.Node) -> Operation | None:
        if node.op == "call_module":
            module = self.modules[node.target]
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise InputError(
                    f"module '{node.target}' normalises by statistics of the batch, so that the "
                    "outputs of an input depend on the other inputs"
                )
            if type(module) is nn.ReLU and _may_overwrite(node.all_input_nodes[0], self.modules):
                return of_module(nn.ReLU(inplace=True))
            return of_module(module)
        if node.op in ("call_function", "call_method"):
            return of_function(node.target)
        return None

    def _value(
        self, node: fx.Node, found: dict[fx.Node, Any], intact: Mapping[fx.Node, Any]
    ) -> Any:
        def argument(x: fx.Node) -> Any:
            value = found.get(x, intact[x])
            return value.maps if isinstance(value, Intact) else value

        operation = self.operations[node]
        changed = [x for x in node.all_input_nodes if isinstance(found.get(x), Changed)]
        if changed and operation is not None:
            named = {_NUMPY_NAMES.get(name, name): x for name, x in node.kwargs.items()}
            value = operation(
                intact[node], *fx.map_arg(node.args, argument), **fx.map_arg(named, argument)
            )
            if isinstance(value, Changed) and value.share >= _NEARLY_WHOLE:
                return value.whole()
            if value is not None:
                return value
        if changed and not self._flattens(node) and not self._joins_whole_maps(node, found):
            self.whole_map_operations.setdefault(str(node), node._pretty_print_target(node.target))
        for x in changed:
            found[x] = found[x].whole()
        return self._evaluate(node, {**intact, **found})

    def _joins_whole_maps(self, node: fx.Node, found: dict[fx.Node, Any]) -> bool:
        """Whether another argument has grown to whole maps, so that the operation needs them."""
        values = [found[x] for x in node.all_input_nodes if x in found]
        spaces = {x.intact.space for x in values if isinstance(x, Changed)}
        return any(isinstance(x, Tensor) and tuple(x.shape[2:]) in spaces for x in values)

    def _flattens(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.modules[node.target], nn.Flatten)
        return node.target in _FLATTENING

    def _evaluate(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        def argument(x: fx.Node) -> Any:
            value = values[x]
            return value.maps if isinstance(value, Intact) else value

        args, kwargs = fx.map_arg(node.args, argument), fx.map_arg(node.kwargs, argument)
        if callable(node.target):
            return node.target(*args, **kwargs)
        if node.op == "call_module":
            return self.modules[node.target](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        if node.op == "get_attr":
            return operator.attrgetter(node.target)(self.graph)
        return args[0]


def _may_overwrite(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a node's values are new and read only once, so that they may be overwritten."""
    convolves = node.op == "call_module" and type(modules[str(node.target)]) in _CONVOLUTIONS
    return len(node.users) == 1 and (convolves or node.target in (operator.add, torch.add))


def _has_maps(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (4, 5) and len(value) == 1


def _fold_batch_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold batch normalisation into the convolution before it."""
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or type(modules[node.target]) not in _BATCH_NORMS:
            continue
        (before,) = node.all_input_nodes
        if (
            before.op != "call_module"
            or type(modules[before.target]) not in _CONVOLUTIONS
            or len(before.users) > 1
            or _calls(graph, before.target) > 1
            or _calls(graph, node.target) > 1
            or modules[node.target].running_mean is None
        ):
            continue
        folded = fuse_conv_bn_eval(modules[before.target], modules[node.target])
        graph.set_submodule(before.target, folded)
        modules[before.target] = folded
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    return graph


def _calls(graph: fx.GraphModule, module: str) -> int:
    return sum(n.op == "call_module" and n.target == module for n in graph.graph.nodes)
