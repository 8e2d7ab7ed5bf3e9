"""Layers of a graph as modules of torch: the same operator, on weights that are the module's own."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from worker.graphs.schema import Graph, InTraining, Node, Reference, Value

CONVOLUTIONS: dict[str, tuple[type[nn.Module], int]] = {
    "aten.conv1d.default": (nn.Conv1d, 1),
    "aten.conv1d.padding": (nn.Conv1d, 1),
    "aten.conv2d.default": (nn.Conv2d, 2),
    "aten.conv2d.padding": (nn.Conv2d, 2),
    "aten.conv3d.default": (nn.Conv3d, 3),
    "aten.conv3d.padding": (nn.Conv3d, 3),
}
OWN = {
    "aten.linear.default": ("weight", "bias"),
    "aten.embedding.default": ("weight",),
    "aten.batch_norm.default": ("weight", "bias", "running_mean", "running_var"),
    **dict.fromkeys(CONVOLUTIONS, ("weight", "bias")),
}
"""Of each operator that becomes a module, the arguments that are the module's tensors; they are named alike."""


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of inputs of any number of dimensions.

    Args:
        frozen: Whether it stays in evaluation mode.
    """

    def __init__(self, *arguments: Any, frozen: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.frozen = frozen

    def train(self, mode: bool = True) -> "BatchNorm":
        """Training mode, unless it is frozen."""
        return super().train(mode and not self.frozen)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any will do: the operator itself asks for at least two."""


def modules_of(graph: Graph, tensors: Mapping[str, Tensor]) -> tuple[dict[int, str], dict[str, nn.Module]]:
    """The operators of a graph for which there is a module of torch, and these modules.

    An operator's module owns all tensors that the operator reads, and no others. A graph may use it several times, as
    long as it does the same each time.

    Args:
        graph: Any.
        tensors: All that it holds, by key.

    Returns:
        The name of the module for the operators at some positions; and the modules by name, without tensors yet.
    """
    key_of = {held.name: held.key for held in graph.held if held.kind != "constant"}
    children: dict[str, set[str]] = {}
    for key in key_of.values():
        owner, _, name = key.rpartition(".")
        children.setdefault(owner, set()).add(name)
        while owner:
            owner, _, name = owner.rpartition(".")
            children.setdefault(owner, set()).add(name)
    positions: dict[int, str] = {}
    modules: dict[str, nn.Module] = {}
    first: dict[str, Node] = {}
    for position, node in enumerate(graph.nodes):
        found = _owner(node, key_of)
        if found is None:
            continue
        owner, names = found
        if owner in modules:
            if _settings(node) == _settings(first[owner]):
                positions[position] = owner
        elif children[owner] - {"num_batches_tracked"} == names:
            module = _module_for(node, {name: tensors[f"{owner}.{name}"] for name in names})
            if module is not None:
                positions[position], modules[owner], first[owner] = owner, module, node
    return positions, modules


def inputs_of(node: Node) -> tuple[Value, ...]:
    """What the module that stands for an operator is called with."""
    return (node.arguments[_input_name(node)],)


def _input_name(node: Node) -> str:
    return "indices" if node.operator == "aten.embedding.default" else "input"


def _settings(node: Node) -> tuple[str, dict[str, Value]]:
    """An operator with all that it is called with but its input."""
    return node.operator, {name: value for name, value in node.arguments.items() if name != _input_name(node)}


def _owner(node: Node, key_of: Mapping[str, str]) -> tuple[str, set[str]] | None:
    """The module whose tensors an operator reads, and their names in it; None if it reads any that are not so held."""
    given = {name: value for name in OWN.get(node.operator, ()) if (value := node.arguments.get(name)) is not None}
    keys = {name: key_of.get(value.value) for name, value in given.items() if isinstance(value, Reference)}
    owners = {
        key.rpartition(".")[0] if key is not None and key.endswith(f".{name}") else "" for name, key in keys.items()
    }
    if len(keys) < len(given) or len(owners) != 1 or owners == {""} or _input_name(node) not in node.arguments:
        return None
    return owners.pop(), set(keys)


def _module_for(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """A module that does what an operator does; without tensors of its own yet, and in training mode.

    Args:
        node: An operator with an owner.
        tensors: Of the owner, by their names in it.

    Returns:
        None if no module of torch does exactly that.
    """
    with torch.device("meta"):
        if node.operator in CONVOLUTIONS:
            return _convolution(node, tensors)
        if node.operator == "aten.linear.default" and tensors["weight"].dim() == 2:
            outputs, inputs = tensors["weight"].shape
            return nn.Linear(inputs, outputs, bias="bias" in tensors)
        if node.operator == "aten.embedding.default" and tensors["weight"].dim() == 2:
            return _embedding(node, tensors)
        if node.operator == "aten.batch_norm.default":
            return _batch_norm(node, tensors)
    return None


def _convolution(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    cls, axes = CONVOLUTIONS[node.operator]
    weight, given = tensors["weight"], node.arguments
    groups = given.get("groups", 1)
    if weight.dim() != 2 + axes or not isinstance(groups, int) or groups < 1 or weight.shape[0] % groups:
        return None
    padding = given.get("padding", 0)
    options = {
        "stride": _lengths(given.get("stride", 1), axes),
        "dilation": _lengths(given.get("dilation", 1), axes),
        "padding": padding if isinstance(padding, str) else _lengths(padding, axes),
    }
    if None in options.values():
        return None
    sizes = weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:])
    try:
        return cls(*sizes, groups=groups, bias="bias" in tensors, **options)
    except ValueError:  # such as padding="same" with strides: the operator itself will say what is wrong
        return None


def _lengths(value: object, axes: int) -> tuple[int, ...] | None:
    """One number an axis, or None if the graph computes them."""
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(type(number) is int for number in numbers) or len(numbers) not in (1, axes):
        return None
    return tuple(numbers) * (axes // len(numbers))


def _embedding(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    given = node.arguments
    padding = given.get("padding_idx", -1)
    rows, width = tensors["weight"].shape
    if given.get("sparse", False) or given.get("scale_grad_by_freq", False) or type(padding) is not int:
        return None
    return nn.Embedding(rows, width, padding_idx=padding if 0 <= padding < rows else None)


def _batch_norm(node: Node, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    given = node.arguments
    momentum, eps, training = (given.get(name) for name in ("momentum", "eps", "training"))
    tracked = "running_mean" in tensors
    if not isinstance(momentum, float) or not isinstance(eps, float) or ("weight" in tensors) != ("bias" in tensors):
        return None
    if tracked != ("running_var" in tensors) or isinstance(training, Reference):
        return None
    return BatchNorm(
        len(next(iter(tensors.values()))),
        eps=eps,
        momentum=momentum,
        affine="weight" in tensors,
        track_running_stats=tracked,
        frozen=not isinstance(training, InTraining) and not training,
    )
