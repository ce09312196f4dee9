"""A traced network that is evaluated on inputs which differ from an intact one in boxes only."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from preddiff.engines.incremental.arranged import Arranged
from preddiff.engines.incremental.boxes import Boxes, Changed, Intact
from preddiff.engines.incremental.operations.base import Operation
from preddiff.engines.incremental.operations.table import of_function, of_module
from preddiff.engines.incremental.rewriting import CONVOLUTIONS, rewritten
from preddiff.errors import InputError

# Whole maps are faster once boxes cover this share of them: nothing has to be gathered then.
_NEARLY_WHOLE = 0.75
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
        self.graph = rewritten(graph)
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
            found[node] = _each(_as_intact, value)
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
            return _each(_as_tensor, found.get(x, intact[x]))

        operation = self.operations[node]
        changed = [x for x in node.all_input_nodes if _is_changed(found.get(x))]
        # What is computed on whole maps differs between variants everywhere.
        is_whole = any(isinstance(found.get(x), Tensor) for x in node.all_input_nodes)
        if changed and operation is not None and not is_whole:
            named = {_NUMPY_NAMES.get(name, name): x for name, x in node.kwargs.items()}
            value = operation(
                intact[node], *fx.map_arg(node.args, argument), **fx.map_arg(named, argument)
            )
            if value is not None:
                return _each(_whole_if_nearly, value)
        if changed and not self._flattens(node) and not self._joins_whole_maps(node, found):
            self.whole_map_operations.setdefault(str(node), node._pretty_print_target(node.target))
        for x in changed:
            found[x] = _each(_whole, found[x])
        return self._evaluate(node, {**intact, **found})

    def _joins_whole_maps(self, node: fx.Node, found: dict[fx.Node, Any]) -> bool:
        """Whether another argument has grown to whole maps, so that the operation needs them."""
        values = [found[x] for x in node.all_input_nodes if x in found]
        shapes = [x.shape for x in values if isinstance(x, Changed | Arranged)]
        return any(isinstance(x, Tensor) and _spans(x.shape, shapes) for x in values)

    def _flattens(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.modules[node.target], nn.Flatten)
        return node.target in _FLATTENING

    def _evaluate(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        def argument(x: fx.Node) -> Any:
            return _each(_as_tensor, values[x])

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
    convolves = node.op == "call_module" and type(modules[str(node.target)]) in CONVOLUTIONS
    return len(node.users) == 1 and (convolves or node.target in (operator.add, torch.add))


def _spans(shape: Sequence[int], others: Sequence[Sequence[int]]) -> bool:
    """Whether a tensor has all axes that others have, instead of being the same along some."""
    return any(
        len(shape) == len(other)
        and all(n > 1 or m == 1 for n, m in zip(shape[1:], other[1:], strict=True))
        for other in others
    )


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to a value, or to each part of one that has several."""
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        parts = [_each(function, part) for part in value]
        # Networks join lists, such as shapes, which does not work with a list and a tuple.
        return parts if isinstance(value, list) else tuple(parts)
    return function(value)


def _as_intact(value: Any) -> Any:
    is_activations = isinstance(value, Tensor) and value.ndim > 2 and len(value) == 1
    return Intact(value) if is_activations else value


def _as_tensor(value: Any) -> Any:
    return value.maps if isinstance(value, Intact) else value


def _is_changed(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_is_changed(part) for part in value)
    return isinstance(value, Changed | Arranged)


def _whole(value: Any) -> Any:
    return value.whole() if isinstance(value, Changed | Arranged) else value


def _whole_if_nearly(value: Any) -> Any:
    is_nearly = isinstance(value, Changed | Arranged) and value.share >= _NEARLY_WHOLE
    return value.whole() if is_nearly else value
