"""The decoding of a weight as nodes of an ONNX graph.

Weights of equal structure share a function, and so do equal TN layers, and equal products of gates, of any structures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from string import ascii_letters
from typing import Any

import onnx
import torch

from adtn.balancing import group_numbers
from adtn.circle import Circle, Step, circle_of
from adtn.coding import most
from adtn.module import ADTN
from adtn.onnx_nodes import Nodes
from adtn.packing import numbers_per_byte, pack
from adtn.quantising import integers
from adtn.start import is_half
from adtn.structure import Activation, Structure

MOST_STEPS = 8
"""Of a sweep: each is an axis more of the tensor."""

_ACTIVATIONS: dict[Activation, tuple[str, dict[str, Any]]] = {
    "none": ("Identity", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "tanh": ("Tanh", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
}


@dataclass(frozen=True)
class Sweep:
    """Steps in a row, none of which takes sites that another of them has left.

    Attributes:
        aside: Entries of the sites in front that are left aside, as the circle is turned before the first step; 1 if
            it is not, or if that step takes some of these sites too.
        steps: But for the first, they need no turn.
    """

    aside: int
    steps: tuple[Step, ...]

    @property
    def turn(self) -> int:
        """How the circle is turned before, or 1."""
        return self.steps[0].turn if self.aside == 1 else 1


def decode(nodes: Nodes, adtn: ADTN) -> str:
    """Add the nodes that compute what `adtn.tracing.PlainADTN` does; the name of the weight, in its shape."""
    terms, entries = adtn.structure.terms, adtn.shape.numel()
    parts = nodes.split(_numbers(nodes, adtn), [term.parameters for term in terms])
    tensors = [nodes.call(_network, [part], term) for part, term in zip(parts, terms, strict=True)]
    flat = reduce(lambda a, b: nodes.add("Add", a, b), tensors)
    if entries < adtn.structure.size:
        flat = nodes.first(flat, entries)
    if is_half(adtn.dtype):
        half = onnx.TensorProto.FLOAT16 if adtn.dtype == torch.float16 else onnx.TensorProto.BFLOAT16
        flat = nodes.add("Cast", nodes.add("Cast", flat, to=half), to=onnx.TensorProto.FLOAT)
    return nodes.reshape(flat, *adtn.shape)


def _numbers(nodes: Nodes, adtn: ADTN) -> str:
    """The numbers of all gates, flat."""
    if adtn.bits is None or adtn.scales is None:
        return nodes.constant(adtn.gates.float())
    packed = pack(integers(adtn.gates, adtn.scales, adtn.structure, adtn.bits), adtn.bits)
    numbers = nodes.first(nodes.call(_unpacked, [nodes.constant(packed)], adtn.bits), adtn.structure.parameters)
    scales = nodes.constant(adtn.scales.float())
    return nodes.call(_scaled, [numbers, scales], tuple(group_numbers(adtn.structure)))


def _unpacked(nodes: Nodes, packed: str, bits: int) -> str:
    """The nodes of `adtn.packing.unpack`; the numbers that fill up the last byte are still there."""
    values, per_byte = nodes.constant(torch.tensor(2.0 * most(bits) + 1)), numbers_per_byte(bits)
    rest, digits = nodes.add("Cast", packed, to=onnx.TensorProto.FLOAT), []
    for _ in range(per_byte - 1):
        quotient = nodes.add("Floor", nodes.add("Div", rest, values))
        digits.append(nodes.add("Sub", rest, nodes.add("Mul", quotient, values)))
        rest = quotient
    digits.append(rest)
    columns = [nodes.reshape(digit, -1, 1) for digit in digits]  # (bytes, 1)
    flat = nodes.reshape(nodes.add("Concat", *columns, axis=1), -1)
    return nodes.add("Sub", flat, nodes.constant(torch.tensor(float(most(bits)))))


def _scaled(nodes: Nodes, numbers: str, scales: str, counts: tuple[int, ...]) -> str:
    """Groups of so many numbers, each times its scale."""
    groups = zip(nodes.split(numbers, counts), nodes.split(scales, [1] * len(counts)), strict=True)
    scaled = [nodes.add("Mul", group, scale) for group, scale in groups]
    return nodes.add("Concat", *scaled, axis=0)


def _network(nodes: Nodes, gates: str, structure: Structure) -> str:
    """The nodes that contract one network; the name of its tensor, flat."""
    state = _contracted(nodes, gates, circle_of(structure), structure.activation)
    if structure.order != tuple(range(structure.sites)):
        state = nodes.add("Transpose", nodes.reshape(state, *structure.dims), perm=structure.order)
    return nodes.reshape(state, -1)


def _contracted(nodes: Nodes, gates: str, circle: Circle, activation: Activation) -> str:
    """What the steps of a circle make of the numbers of its gates; its shape does not matter, it counts as flat."""
    # Made by a node, because the entries of an identity take more bytes than gates.
    state = nodes.add("EyeLike", nodes.add("ConstantOfShape", nodes.constant(torch.tensor([circle.start] * 2))))
    entries, layers = circle.start**2, _tn_layers(circle.steps)
    parts = nodes.split(gates, [sum(step.parameters for step in layer) for layer in layers])
    for layer, part in zip(layers, parts, strict=True):
        state = nodes.call(_tn_layer, [state, part], tuple(_sweeps(layer, entries)), activation)
        entries = entries * prod(step.rows for step in layer) // prod(step.columns for step in layer)
    return _turned(nodes, state, circle.turn)


def _tn_layers(steps: tuple[Step, ...]) -> list[tuple[Step, ...]]:
    """The steps of each TN layer."""
    starts = [i for i, step in enumerate(steps) if i == 0 or step.activate]
    return [steps[start:stop] for start, stop in zip(starts, [*starts[1:], len(steps)], strict=True)]


def _sweeps(steps: Sequence[Step], entries: int) -> Iterator[Sweep]:
    """The sweeps that make the steps of a TN layer, of a tensor with so many entries."""
    sweep: list[Step] = []
    aside = taken = left = 1
    for step in steps:
        if sweep and (step.turn != 1 or taken * step.columns > left or len(sweep) == MOST_STEPS):
            yield Sweep(aside, tuple(sweep))
            sweep = []
        if not sweep:
            aside = step.turn if step.turn * step.columns <= entries else 1
            taken, left = 1, entries // aside
        sweep.append(step)
        taken *= step.columns
        entries = entries // step.columns * step.rows
    yield Sweep(aside, tuple(sweep))


def _tn_layer(nodes: Nodes, state: str, gates: str, sweeps: tuple[Sweep, ...], activation: Activation) -> str:
    """The tensor after a TN layer, from the tensor before and the numbers of the layer's gates."""
    if sweeps[0].steps[0].activate:
        operator, attributes = _ACTIVATIONS[activation]
        state = nodes.add(operator, state, **attributes)
    parts = iter(nodes.split(gates, [step.parameters for sweep in sweeps for step in sweep.steps]))
    for sweep in sweeps:
        state = _swept(nodes, state, [_matrix(nodes, step, next(parts), activation) for step in sweep.steps], sweep)
    return state


def _matrix(nodes: Nodes, step: Step, gates: str, activation: Activation) -> str:
    """The matrix (rows, columns) of a step, from the numbers of its gates."""
    numbers = gates if step.window is None else nodes.call(_contracted, [gates], step.window, activation)
    return nodes.reshape(numbers, step.rows, step.columns)


def _swept(nodes: Nodes, state: str, matrices: Sequence[str], sweep: Sweep) -> str:
    """The tensor after the steps of a sweep.

    It has an axis for the sites of each step, and is not reshaped between them: a runtime that folds constants keeps
    every tensor in between, reshaped ones too.
    """
    signs = iter(ascii_letters)
    columns, rest = [next(signs) for _ in sweep.steps], next(signs)
    aside = next(signs) if sweep.aside != 1 else ""
    state = _turned(nodes, state, sweep.turn)
    state = nodes.reshape(state, *[sweep.aside] * len(aside), *(step.columns for step in sweep.steps), -1)
    axes, done = aside + "".join(columns) + rest, ""
    for column, matrix in zip(columns, matrices, strict=True):
        row = next(signs)
        done += row
        after = rest + aside + done if column == columns[-1] else axes.replace(column, "") + row
        state = nodes.add("Einsum", state, matrix, equation=f"{axes},{row}{column}->{after}")
        axes = after
    return state


def _turned(nodes: Nodes, state: str, turn: int) -> str:
    """With so many entries of the slowest sites taken to the back."""
    return state if turn == 1 else nodes.add("Transpose", nodes.reshape(state, turn, -1))
