"""Split a model before the first weight that is trained: what comes before stays the same, and is computed once.

The forward is traced by torch.fx into the list of its operations, and the first of them are run on a few samples. A
model can be split after an operation if all that came before it leaves a single tensor to the rest, with one row a
sample, and if nothing of it is trained, draws random numbers, or changes a buffer. So dropout ends the prefix, and
batch norm does unless it is frozen.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from adtn.freezing import buffers_restored
from adtn.generators import devices_with_generators
from adtn.module import ADTN


class NotSplit(Exception):
    """The model has no place where it could be split; the message says why."""


@dataclass(frozen=True)
class SplitModel:
    """A model in two parts, which share its modules: outputs = rest(prefix(inputs)).

    Attributes:
        prefix: (batch, ...) to the activations, (batch, *shape).
        rest: The activations to the model's outputs.
        shape: Of the activations of one sample.
        dtype: Of the activations.
        position: Of the last operation of the prefix.
    """

    prefix: nn.Module
    rest: nn.Module
    shape: torch.Size
    dtype: torch.dtype
    position: int


def split(model: nn.Module, samples: Tensor) -> SplitModel:
    """Split a model where the most frozen weights, and then the fewest numbers, come before.

    After the last frozen weight come operations that cost little, such as pooling, which may make many numbers out of
    few: there the smallest activations are taken.

    The forward is taken as it is when it is traced: with the modes that its modules have, and without what Python alone
    decides at each call (a counter, the module `random`). Compare outputs before relying on the parts.

    Args:
        model: In the modes in which it will run, on one device. It is run on the samples as far as it is frozen, and
            not changed; torch's generators move on.
        samples: A few, (batch, ...), on the model's device.

    Raises:
        NotSplit: The forward cannot be traced, no frozen weight comes before the first trained one, or more than one
            tensor goes on from there.
    """
    if _is_hooked(model):
        raise NotSplit("the model has hooks")
    traced = _traced(model)
    with torch.no_grad(), buffers_restored(model):
        steady = _steady(traced, samples)
    places = [place for place in _places(traced, steady, len(samples)) if place.weights]
    if not places:
        raise NotSplit("no frozen weight comes before the first trained one and leaves a single tensor to the rest")
    best = max(places, key=lambda place: (place.weights, -place.numbers, place.position))
    activations = steady[best.node]
    assert isinstance(activations, Tensor)
    prefix, rest = _parts(traced, best.position, best.node)
    return SplitModel(prefix, rest, activations.shape[1:], activations.dtype, best.position)


def rest_of(model: nn.Module, other: SplitModel) -> nn.Module | None:
    """The rest of a model that begins as another one does: its outputs are rest(other.prefix(inputs)).

    Args:
        model: In the modes in which it will run.
        other: Split before.

    Returns:
        None if the model does not begin with the same operations and the same numbers, or cannot be traced.
    """
    try:
        traced = _traced(model)
    except NotSplit:
        return None
    nodes = list(traced.graph.nodes)
    used = _used_later(nodes, other.position)
    if len(used) != 1:
        return None
    prefix, rest = _parts(traced, other.position, used[0])
    return rest if _is_same(prefix, other.prefix) else None


class _Place(NamedTuple):
    """Where the model may be split: after `position` operations and one, of which `node` alone is used later."""

    position: int
    node: fx.Node
    weights: int
    numbers: int


class _Tracer(fx.Tracer):
    """Takes modules with hooks as a whole, so that their hooks run."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_hooked(m) or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> fx.GraphModule:
    """The model's forward as a list of operations on its own modules."""
    if len(inspect.signature(model.forward).parameters) != 1:
        raise NotSplit("the model takes more than its inputs")
    attributes = set(vars(model))
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # the forward is the user's, and may fail in any way when it is traced
        raise NotSplit(f"the model cannot be traced: {type(error).__name__}: {error}") from error
    finally:
        for name in set(vars(model)) - attributes:  # constant tensors, kept by the tracer at the model's root
            delattr(model, name)


def _steady(traced: fx.GraphModule, samples: Tensor) -> dict[fx.Node, object]:
    """The values of the operations up to the first that does not always give the same for the same samples."""
    interpreter = fx.Interpreter(traced)
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            interpreter.env[node] = samples
            continue
        if node.op == "output" or _is_trained(traced, node):
            break
        before = _state(traced, samples.device)
        value = interpreter.run_node(node)
        if not all(map(torch.equal, before, _state(traced, samples.device))):
            break
        interpreter.env[node] = value
    return interpreter.env


def _state(model: nn.Module, device: torch.device) -> list[Tensor]:
    """What an operation may change besides its outputs: generators and buffers."""
    generators = [torch.get_rng_state()]
    for other in devices_with_generators(device):
        generators.append(torch.get_device_module(other).get_rng_state(other))
    return [*generators, *(buffer.clone() for buffer in model.buffers())]


def _places(traced: fx.GraphModule, steady: dict[fx.Node, object], count: int) -> Iterator[_Place]:
    """The places where one tensor alone, of a row a sample, leads from the steady operations to the rest."""
    nodes = list(traced.graph.nodes)
    weights = 0
    for position in range(len(steady)):
        weights += _holds_weights(traced, nodes[position])
        used = _used_later(nodes, position)
        value = steady[used[0]] if len(used) == 1 else None
        if isinstance(value, Tensor) and value.dim() > 0 and len(value) == count:
            yield _Place(position, used[0], weights, value.numel())


def _used_later(nodes: Sequence[fx.Node], position: int) -> list[fx.Node]:
    """Whose values the operations after a position need of those up to it."""
    later = set(nodes[position + 1 :])
    return [node for node in nodes[: position + 1] if not later.isdisjoint(node.users)]


def _parts(traced: fx.GraphModule, position: int, activations: fx.Node) -> tuple[nn.Module, nn.Module]:
    """The operations up to a position and those after it, which need `activations` alone, as two modules."""
    nodes = list(traced.graph.nodes)
    copies: dict[fx.Node, fx.Node] = {}
    before = fx.Graph()
    for node in nodes[: position + 1]:
        copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(copies[activations])
    after = fx.Graph()
    copies = {activations: after.placeholder("activations")}
    for node in nodes[position + 1 :]:
        copies[node] = after.node_copy(node, copies.__getitem__)
    return fx.GraphModule(traced, before), fx.GraphModule(traced, after)


def _is_same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two modules print the same, down to their operations, and hold the same numbers."""
    one, two = first.state_dict(), second.state_dict()
    return str(first) == str(second) and one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def _is_trained(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether an operation is trained, or looked at by hooks; any encoded weight counts, as its rounding may change."""
    held = _held(traced, node)
    if isinstance(held, nn.Module):
        parts = any(isinstance(part, ADTN) or _is_hooked(part) for part in held.modules())
        return parts or any(parameter.requires_grad for parameter in held.parameters())
    return isinstance(held, Tensor) and held.requires_grad


def _holds_weights(traced: fx.GraphModule, node: fx.Node) -> bool:
    held = _held(traced, node)
    if isinstance(held, nn.Module):
        return any(True for _ in held.parameters())
    return isinstance(held, nn.Parameter)


def _held(traced: fx.GraphModule, node: fx.Node) -> object:
    """The module or the attribute of the model that an operation is about, if any."""
    if node.op not in ("call_module", "get_attr"):
        return None
    found: object = traced
    for name in str(node.target).split("."):
        found = getattr(found, name)
    return found


def _is_hooked(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))
