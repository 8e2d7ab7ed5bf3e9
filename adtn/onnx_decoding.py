"""The decoding of a weight as nodes of an ONNX graph: those of `adtn.tracing`, one for one.

Weights of equal structure share a function, and so do equal TN layers and equal gates of different structures.
"""

from functools import reduce
from typing import Any

import onnx
import torch

from adtn.balancing import group_numbers
from adtn.circle import Circle, Step, circle_of
from adtn.module import ADTN
from adtn.onnx_nodes import Nodes
from adtn.packing import numbers_per_byte, pack
from adtn.quantising import integers, most
from adtn.structure import Activation, Structure
from adtn.tracing import is_half

_ACTIVATIONS: dict[Activation, tuple[str, dict[str, Any]]] = {
    "none": ("Identity", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "tanh": ("Tanh", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
}


def decode(nodes: Nodes, adtn: ADTN) -> str:
    """Add the nodes of `adtn.tracing.PlainADTN`; the name of the weight, in its shape."""
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
    """The nodes of `adtn.tracing.contract_plainly` for one network; the name of its tensor, flat."""
    state = _contracted(nodes, gates, circle_of(structure), structure.activation)
    if structure.order != tuple(range(structure.sites)):
        state = nodes.add("Transpose", nodes.reshape(state, *structure.dims), perm=structure.order)
    return nodes.reshape(state, -1)


def _contracted(nodes: Nodes, gates: str, circle: Circle, activation: Activation) -> str:
    """What the steps of a circle make of the numbers of its gates; its shape does not matter, it counts as flat."""
    # Made by a node, because the entries of an identity take more bytes than gates.
    state = nodes.add("EyeLike", nodes.add("ConstantOfShape", nodes.constant(torch.tensor([circle.start] * 2))))
    layers = _tn_layers(circle.steps)
    parts = nodes.split(gates, [sum(step.parameters for step in layer) for layer in layers])
    for layer, part in zip(layers, parts, strict=True):
        state = nodes.call(_tn_layer, [state, part], layer, activation)
    return _turned(nodes, state, circle.turn)


def _tn_layers(steps: tuple[Step, ...]) -> list[tuple[Step, ...]]:
    """The steps of each TN layer."""
    starts = [i for i, step in enumerate(steps) if i == 0 or step.activate]
    return [steps[start:stop] for start, stop in zip(starts, [*starts[1:], len(steps)], strict=True)]


def _tn_layer(nodes: Nodes, state: str, gates: str, steps: tuple[Step, ...], activation: Activation) -> str:
    """The tensor after a TN layer, from the tensor before and the numbers of the layer's gates."""
    if steps[0].activate:
        operator, attributes = _ACTIVATIONS[activation]
        state = nodes.add(operator, state, **attributes)
    parts = nodes.split(gates, [step.parameters for step in steps])
    for step, part in zip(steps, parts, strict=True):
        matrix = part if step.window is None else nodes.call(_contracted, [part], step.window, activation)
        state = nodes.call(_gate, [state, matrix], step.turn, step.rows, step.columns)
    return state


def _gate(nodes: Nodes, state: str, numbers: str, turn: int, rows: int, columns: int) -> str:
    """The tensor after a gate or a window, from the tensor before and the numbers of the matrix."""
    matrix = nodes.reshape(numbers, rows, columns)
    own = nodes.reshape(_turned(nodes, state, turn), columns, -1)  # (own sites, other sites)
    return nodes.add("Gemm", own, matrix, transA=1, transB=1)  # (other sites, own sites)


def _turned(nodes: Nodes, state: str, turn: int) -> str:
    """With so many entries of the slowest sites taken to the back."""
    return state if turn == 1 else nodes.add("Transpose", nodes.reshape(state, turn, -1))
