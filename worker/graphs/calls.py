"""Operators of a graph as calls of torch's functions."""

import operator
from collections.abc import Callable, Mapping

import torch

from worker.graphs.model import OfInput, OfModel
from worker.graphs.operators import ARITHMETIC_OF_SIZES, NORMS_WITH_STATISTICS
from worker.graphs.schema import InFormat, InTraining, Node, OfType, Reference


def call_of(node: Node, keys: Mapping[str, str]) -> tuple[Callable[..., object], list[object], dict[str, object]]:
    """The function that an operator is, its arguments by position, and those by name.

    A norm with running statistics stays in evaluation mode here: what decides over its training is a module of its own
    (see `worker.graphs.modules`). What makes a tensor out of nothing makes it where the input is.

    Args:
        node: The operator.
        keys: Of the tensors that the graph holds, by their names in it.

    Raises:
        ValueError: The operator has no such argument, or writes to a tensor of the model.
    """
    arguments = {name: resolved(value, keys) for name, value in node.arguments.items()}
    if node.operator in ARITHMETIC_OF_SIZES:
        return _function_of_sizes(node.operator), list(arguments.values()), {}
    if node.operator in NORMS_WITH_STATISTICS:
        arguments = {name: False if isinstance(value, InTraining) else value for name, value in arguments.items()}
    function = overload(node.operator)
    schema = function._schema
    unknown = arguments.keys() - {argument.name for argument in schema.arguments}
    if unknown:
        raise ValueError(f"expected no argument {sorted(unknown)[0]!r}")
    if any(isinstance(arguments.get(name), OfModel) for name in written(function)):
        raise ValueError("expected it to write to a result, got a tensor of the model")
    if _makes_tensors(schema):
        arguments["device"] = OfInput()
    positional = []
    for argument in schema.arguments:
        if argument.kwarg_only or argument.name not in arguments:
            break
        positional.append(arguments.pop(argument.name))
    return function, positional, arguments


def resolved(value: object, keys: Mapping[str, str]) -> object:
    """An argument of an operator as the model's steps take it.

    Args:
        value: A `worker.graphs.schema.Value`, or an item of one.
        keys: Of the tensors that the graph holds, by their names in it.
    """
    match value:
        case Reference() if value.value in keys:
            return OfModel(keys[value.value])
        case OfType():
            return getattr(torch, value.dtype)
        case InFormat():
            return getattr(torch, value.memory_format)
        case tuple():
            return tuple(resolved(item, keys) for item in value)
        case _:
            return value


def overload(name: str) -> torch._ops.OpOverload:
    """The operator of torch behind a name such as "aten.linear.default"."""
    _, packet, found = name.split(".")
    function: torch._ops.OpOverload = getattr(getattr(torch.ops.aten, packet), found)
    return function


def written(function: torch._ops.OpOverload) -> list[str]:
    """Names of the arguments that an operator changes in place."""
    return [
        argument.name
        for argument in function._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _function_of_sizes(name: str) -> Callable[..., object]:
    module, _, found = name.rpartition(".")
    function: Callable[..., object] = getattr(operator if module == "_operator" else torch, found)
    return function


def _makes_tensors(schema: torch.FunctionSchema) -> bool:
    """Whether a device is wanted that no tensor among the arguments gives."""
    names = {argument.name for argument in schema.arguments}
    return "device" in names and not any("Tensor" in str(argument.type) for argument in schema.arguments)
