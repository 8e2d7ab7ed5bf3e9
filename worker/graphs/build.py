"""From a graph and its tensors to the module that runs it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.graphs.calls import call_of, resolved, written
from worker.graphs.model import GraphModel, Program, Step
from worker.graphs.modules import BatchNorm, inputs_of, modules_of
from worker.graphs.schema import Graph

TAKEN = frozenset(dir(nn.Module())) | {"program", "run"}
"""Names that a part of a model cannot have: attributes of every module."""


def build(graph: Graph, tensors: Mapping[str, Tensor]) -> GraphModel:
    """Make the module that runs a graph, with copies of its tensors.

    Args:
        graph: What to run.
        tensors: All that the graph holds, by key, and perhaps more; those that are tied are the same object.

    Returns:
        In training mode, its parameters trained, on the device of the tensors.

    Raises:
        ProblemError: `checkpoint_mismatch` if a tensor is missing; `checkpoint_invalid` if an operator is called as it
            cannot be, writes to a tensor of the model, or a key cannot be that of a module's tensor.
    """
    _require_keys(graph, tensors)
    positions, modules = modules_of(graph, tensors)
    keys = {held.name: held.key for held in graph.held}
    steps, in_place = [], False
    for position, (node, last_uses) in enumerate(zip(graph.nodes, _last_uses(graph), strict=True)):
        if position in positions:
            inputs = tuple(resolved(value, keys) for value in inputs_of(node))
            steps.append(Step(positions[position], inputs, {}, node.results, last_uses))
            continue
        try:
            call, positional, keywords = call_of(node, keys)
        except ValueError as error:
            raise ProblemError("checkpoint_invalid", f"operator {position} ({node.operator}): {error}") from error
        in_place = in_place or (isinstance(call, torch._ops.OpOverload) and bool(written(call)))
        steps.append(Step(call, tuple(positional), keywords, node.results, last_uses))
    program = Program(
        graph.input.name,
        tuple(steps),
        graph.output,
        graph.input.batch,
        getattr(torch, graph.input.dtype),
        in_place,
    )
    model = GraphModel(program)
    _fill(model, graph, tensors, modules)
    return model


def _require_keys(graph: Graph, tensors: Mapping[str, Tensor]) -> None:
    """Refuse keys without a tensor, and keys that a module cannot have."""
    keys = {held.key for held in graph.held}
    for key in sorted(keys):
        if key not in tensors:
            raise ProblemError("checkpoint_mismatch", f"the graph holds {key!r}, got no such tensor")
        parts = key.split(".")
        taken = next((part for part in parts if part in TAKEN or not part), None)
        if taken is not None:
            raise ProblemError("checkpoint_invalid", f"tensor {key!r}: a model cannot have a part named {taken!r}")
        inside = next((other for end in range(1, len(parts)) if (other := ".".join(parts[:end])) in keys), None)
        if inside is not None:
            raise ProblemError("checkpoint_invalid", f"tensor {key!r} lies inside of {inside!r}, which is a tensor")


def _last_uses(graph: Graph) -> list[tuple[str, ...]]:
    """For each operator the values that no later one reads and that are not the output: its own unused results too."""
    kept = {held.name for held in graph.held} | {graph.output}
    found = []
    for node in reversed(graph.nodes):
        unused = dict.fromkeys(name for name in (*node.references(), *node.names) if name not in kept)
        kept |= unused.keys()
        found.append(tuple(unused))
    return found[::-1]


def _fill(model: nn.Module, graph: Graph, tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> None:
    """Give a model the modules and tensors that the graph holds, under their keys."""
    parameters: dict[int, nn.Parameter] = {}
    for held in graph.held:
        *path, name = held.key.split(".")
        owner = model
        for depth, part in enumerate(path, 1):
            made = modules.get(".".join(path[:depth])) or nn.Module()
            owner = owner._modules.setdefault(part, made)  # type: ignore[assignment]
        tensor = tensors[held.key]
        if held.kind == "parameter":
            if id(tensor) not in parameters:
                parameters[id(tensor)] = nn.Parameter(tensor.clone(), requires_grad=tensor.is_floating_point())
            owner._parameters[name] = parameters[id(tensor)]
        else:
            owner._buffers[name] = tensor.clone()
            if held.kind == "constant":
                owner._non_persistent_buffers_set.add(name)
    for name, module in modules.items():
        if isinstance(module, BatchNorm) and f"{name}.num_batches_tracked" not in tensors:
            module.num_batches_tracked = None
    model.train()
