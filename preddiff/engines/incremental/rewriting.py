"""Rewriting of traced networks, so that fewer operations are left to be computed."""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_ZERO_PADDINGS = (nn.ZeroPad2d, nn.ZeroPad3d)
_FUNCTIONS: dict[Any, Any] = {F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d}
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM_ARGUMENTS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip


def rewritten(graph: fx.GraphModule) -> fx.GraphModule:
    """Make modules of functional convolutions, and fold normalisation and padding into them."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _FUNCTIONS:
            _make_module(graph, node)
    _fold_batch_norms(graph)
    _fold_paddings(graph)
    # Weights are read by modules now.
    graph.graph.eliminate_dead_code()
    return graph


def _make_module(graph: fx.GraphModule, node: fx.Node) -> None:
    """Replace a functional convolution by a module, if its weights are those of the network."""
    given: dict[str, Any] = dict(zip(_ARGUMENTS, node.args, strict=False)) | dict(node.kwargs)
    input = given.pop("input")
    has_bias = given.get("bias") is not None
    weight, bias = (_tensor(graph, given.pop(name, None)) for name in ("weight", "bias"))
    if weight is None or (has_bias and bias is None):
        # They are computed from parameters.
        return
    if any(isinstance(x, fx.Node) for x in _flat(given.values())):
        return
    groups = given.pop("groups", 1)
    channels, size = weight.shape[1] * groups, weight.shape[2:]
    with torch.device("meta"):
        module = _FUNCTIONS[node.target](channels, len(weight), size, groups=groups, **given)
    module.weight = _parameter(weight)
    module.bias = None if bias is None else _parameter(bias)
    name = f"convolution_of_{node.name}"
    # Only modules in eval mode can take batch normalisation in.
    graph.add_submodule(name, module.eval())
    node.op, node.target, node.args, node.kwargs = "call_module", name, (input,), {}


def _tensor(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """Parameter or buffer that a node reads."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    found: Tensor = operator.attrgetter(str(node.target))(graph)
    return found


def _parameter(tensor: Tensor) -> nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor, requires_grad=False)


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    """Fold batch normalisation into the convolution before it."""
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        norm = _batch_norm(graph, node)
        if norm is None or norm.running_mean is None:
            continue
        before = node.all_input_nodes[0]
        if (
            before.op == "call_module"
            and type(modules[str(before.target)]) in CONVOLUTIONS
            and len(before.users) == 1
            and _calls(graph, before.target) == 1
            and (node.op == "call_function" or _calls(graph, node.target) == 1)
        ):
            folded = fuse_conv_bn_eval(modules[str(before.target)], norm)
            graph.set_submodule(str(before.target), folded)
            modules[str(before.target)] = folded
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)


def _fold_paddings(graph: fx.GraphModule) -> None:
    """Fold padding by zeros, as much before as after, into the convolution after it.

    A convolution that pads itself reads boxes from the maps; otherwise each box is copied first.
    """
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or type(modules[str(node.target)]) not in CONVOLUTIONS:
            continue
        before, convolution = node.all_input_nodes[0], modules[str(node.target)]
        if before.op != "call_module" or len(before.users) > 1:
            continue
        # From the last axis to the first, the numbers before and after.
        padding = getattr(modules[str(before.target)], "padding", ())
        if (
            type(modules[str(before.target)]) in _ZERO_PADDINGS
            and padding[::2] == padding[1::2]
            and min(padding) >= 0
            and convolution.padding_mode == "zeros"
            and not any(convolution.padding)
            and _calls(graph, node.target) == 1
        ):
            folded = copy.copy(convolution)
            folded.padding = padding[::-2]
            graph.set_submodule(str(node.target), folded)
            node.replace_input_with(before, before.all_input_nodes[0])
            graph.graph.erase_node(before)


def _batch_norm(graph: fx.GraphModule, node: fx.Node) -> Any:
    """Normalisation that a node calls as a module or, with the network's tensors, as a function."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return module if type(module) in _BATCH_NORMS else None
    if node.op != "call_function" or node.target is not F.batch_norm:
        return None
    given: dict[str, Any] = dict(zip(_NORM_ARGUMENTS, node.args, strict=False)) | dict(node.kwargs)
    tensors = {name: given.get(name) for name in _NORM_ARGUMENTS[1:5]}
    found = {name: _tensor(graph, of) for name, of in tensors.items() if of is not None}
    known = {name: values for name, values in found.items() if values is not None}
    has_statistics = {"running_mean", "running_var"} <= known.keys()
    if len(known) < len(found) or not has_statistics or given.get("training", False):
        return None
    count = len(known["running_mean"])
    norm: Any = nn.BatchNorm2d(count, eps=given.get("eps", 1e-5), affine=False)
    for name, values in known.items():
        setattr(norm, name, values if name.startswith("running") else _parameter(values))
    return norm.eval()


def _calls(graph: fx.GraphModule, module: Any) -> int:
    return sum(n.op == "call_module" and n.target == module for n in graph.graph.nodes)


def _flat(values: Any) -> list[Any]:
    return [y for x in values for y in (_flat(x) if isinstance(x, tuple | list) else [x])]
