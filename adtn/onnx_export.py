"""A compressed model as an ONNX file: the network as torch exports it, and the decoding of each weight as nodes.

The decoding has constants for inputs only, so a runtime that folds constants decodes once, when it loads the file.

This module can only be imported where the extra "onnx" is installed: otherwise it raises ExportError.
"""

import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import reduce
from string import ascii_letters, digits
from typing import Any

import torch
from torch import Tensor, nn

from adtn.balancing import group_numbers
from adtn.circle import Circle, circle_of
from adtn.encoding import encoded_places
from adtn.errors import ExportError
from adtn.exporting import first_line, traced
from adtn.module import ADTN
from adtn.packing import numbers_per_byte, pack
from adtn.quantising import integers, most
from adtn.structure import Structure
from adtn.tracing import is_half

try:
    import onnx
    import onnx_ir
    from onnx import helper, numpy_helper
    from onnxscript.optimizer import optimize
except ImportError as error:
    raise ExportError(f"expected the packages of the extra 'onnx' (pip install 'adtn[onnx]'), got: {error}") from error

OPSET = 20
"""The first that has Gelu."""

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("Identity", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "tanh": ("Tanh", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
}


def save_onnx(model: nn.Module, sample: Sequence[int], path: str | os.PathLike[str]) -> None:
    """Write an ONNX file with one input, "input" (batch, *sample), and one output, "output", both float32.

    It holds the gates: floats, or with bits one integer or more in each byte.

    Args:
        model: Compressed or not; not changed.
        sample: Shape of one sample.
        path: Of the file.

    Raises:
        ExportError: The model cannot be traced for any number of samples, or has an operator that ONNX has not.
    """
    held = {place.gates_key.removesuffix("gates") + "weight": place.adtn for place in encoded_places(model)}
    network = _network(model, sample, set(held))
    nodes = _Nodes()
    weights: dict[ADTN, str] = {}
    for given in list(network.graph.input):
        if given.name not in held:
            continue
        network.graph.input.remove(given)
        adtn = held[given.name]
        if adtn not in weights:
            weights[adtn] = _decode(nodes, adtn)
        nodes.add("Identity", weights[adtn], name=given.name)
    decoding = nodes.made + list(network.graph.node)
    del network.graph.node[:]
    network.graph.node.extend(decoding)
    network.graph.initializer.extend(nodes.constants.values())
    onnx.save(network, path)


class _StandIn(nn.Module):
    """A weight of zeros, which take no memory: only its name and shape matter."""

    def __init__(self, adtn: ADTN) -> None:
        super().__init__()
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(()).expand(adtn.shape))

    def forward(self) -> Tensor:
        return self.weight


def _network(model: nn.Module, sample: Sequence[int], encoded: set[str]) -> onnx.ModelProto:
    """The network alone: its encoded weights are inputs of the graph, so that nothing is computed from them yet."""
    program = traced(model, sample, _StandIn)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, about calls that it makes itself
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
            )
    except Exception as error:  # of as many kinds as there are operators; what is the matter is in its cause
        raise ExportError(f"the model has no form in ONNX: {first_line(error.__cause__ or error)}") from error
    assert exported is not None
    graph = exported.model.graph
    shape = graph.inputs[0].shape
    assert shape is not None
    exported.rename_axes({str(shape[0]): "batch"})
    for name in encoded & graph.initializers.keys():
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    optimize(exported.model)
    network = onnx_ir.serde.serialize_model(exported.model)
    _forget_origin(network)
    return network


def _forget_origin(network: onnx.ModelProto) -> None:
    """Take out the notes on the code that the nodes come from, which are most of a small file."""
    network.ClearField("metadata_props")
    network.graph.ClearField("metadata_props")
    network.graph.ClearField("value_info")
    for part in [*network.graph.node, *network.graph.input, *network.graph.output, *network.graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


class _Nodes:
    """Nodes in the order in which they run, under short names, and the constants that they read.

    Attributes:
        made: The nodes.
        constants: By dtype, shape and content: equal ones are stored once.
    """

    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []
        self.constants: dict[tuple[torch.dtype, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._names = _short_names()

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node with one output; the output's name."""
        return self.add_many(operator, *inputs, names=[name or next(self._names)], **attributes)[0]

    def add_many(self, operator: str, *inputs: str, names: list[str], **attributes: Any) -> list[str]:
        """A node with several outputs; their names."""
        self.made.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def constant(self, tensor: Tensor) -> str:
        """A tensor that nodes read; its name."""
        array = tensor.detach().cpu().contiguous().numpy()
        key = tensor.dtype, tuple(tensor.shape), array.tobytes()
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, next(self._names))
        return self.constants[key].name

    def reshape(self, value: str, *shape: int) -> str:
        """The value in another shape."""
        return self.add("Reshape", value, self.constant(torch.tensor(shape)))

    def first(self, value: str, count: int) -> str:
        """The first entries of a flat value."""
        return self.add("Slice", value, self.constant(torch.tensor([0])), self.constant(torch.tensor([count])))

    def split(self, value: str, counts: Sequence[int]) -> list[str]:
        """The parts of a flat value."""
        if len(counts) == 1:
            return [value]
        return self.add_many(
            "Split", value, self.constant(torch.tensor(counts)), names=[next(self._names) for _ in counts]
        )


def _short_names() -> Iterator[str]:
    """All names that a slash begins, the short ones first; torch gives none of them."""
    for length in itertools.count(1):
        for signs in itertools.product(ascii_letters + digits, repeat=length):
            yield f"/{''.join(signs)}"


def _decode(nodes: _Nodes, adtn: ADTN) -> str:
    """The nodes of `adtn.tracing.PlainADTN`; the name of the weight."""
    terms, entries = adtn.structure.terms, adtn.shape.numel()
    parts = nodes.split(_numbers(nodes, adtn), [term.parameters for term in terms])
    tensors = [_contract(nodes, part, term) for part, term in zip(parts, terms, strict=True)]
    flat = reduce(lambda a, b: nodes.add("Add", a, b), tensors)
    if entries < adtn.structure.size:
        flat = nodes.first(flat, entries)
    if is_half(adtn.dtype):
        half = onnx.TensorProto.FLOAT16 if adtn.dtype == torch.float16 else onnx.TensorProto.BFLOAT16
        flat = nodes.add("Cast", nodes.add("Cast", flat, to=half), to=onnx.TensorProto.FLOAT)
    return nodes.reshape(flat, *adtn.shape)


def _numbers(nodes: _Nodes, adtn: ADTN) -> str:
    """The numbers of all gates, flat."""
    if adtn.bits is None or adtn.scales is None:
        return nodes.constant(adtn.gates.float())
    packed = pack(integers(adtn.gates, adtn.scales, adtn.structure, adtn.bits), adtn.bits)
    numbers = _unpack(nodes, packed, adtn.structure.parameters, adtn.bits)
    scales = adtn.scales.float().unbind()
    groups = nodes.split(numbers, group_numbers(adtn.structure))
    scaled = [nodes.add("Mul", group, nodes.constant(scale)) for group, scale in zip(groups, scales, strict=True)]
    return scaled[0] if len(scaled) == 1 else nodes.add("Concat", *scaled, axis=0)


def _unpack(nodes: _Nodes, packed: Tensor, count: int, bits: int) -> str:
    """The nodes of `adtn.packing.unpack`."""
    values, per_byte = nodes.constant(torch.tensor(2.0 * most(bits) + 1)), numbers_per_byte(bits)
    rest, digits = nodes.add("Cast", nodes.constant(packed), to=onnx.TensorProto.FLOAT), []
    for _ in range(per_byte - 1):
        quotient = nodes.add("Floor", nodes.add("Div", rest, values))
        digits.append(nodes.add("Sub", rest, nodes.add("Mul", quotient, values)))
        rest = quotient
    digits.append(rest)
    columns = [nodes.reshape(digit, -1, 1) for digit in digits]  # (bytes, 1)
    flat = nodes.reshape(nodes.add("Concat", *columns, axis=1), -1)
    return nodes.add("Sub", nodes.first(flat, count), nodes.constant(torch.tensor(float(most(bits)))))


def _contract(nodes: _Nodes, gates: str, structure: Structure) -> str:
    """The nodes of `adtn.tracing.contract_plainly` for one network; the name of its tensor, flat."""
    parts = iter(nodes.split(gates, [gate.parameters for gate in structure.gates]))
    state = _run(nodes, circle_of(structure), parts, structure.activation)
    if structure.order != tuple(range(structure.sites)):
        state = nodes.add("Transpose", nodes.reshape(state, *structure.dims), perm=structure.order)
    return nodes.reshape(state, -1)


def _run(nodes: _Nodes, circle: Circle, parts: Iterator[str], activation: str) -> str:
    """The nodes of the steps of a circle; the name of what they make of the next gates."""
    operator, attributes = _ACTIVATIONS[activation]
    # Made by a node, because the entries of an identity take more bytes than gates.
    state = nodes.add("EyeLike", nodes.add("ConstantOfShape", nodes.constant(torch.tensor([circle.start] * 2))))
    for step in circle.steps:
        part = next(parts) if step.window is None else _run(nodes, step.window, parts, activation)
        matrix = nodes.reshape(part, step.rows, step.columns)
        if step.activate:
            state = nodes.add(operator, state, **attributes)
        own = nodes.reshape(_turned(nodes, state, step.turn), step.columns, -1)  # (own sites, other sites)
        state = nodes.add("Gemm", own, matrix, transA=1, transB=1)  # (other sites, own sites)
    return _turned(nodes, state, circle.turn)


def _turned(nodes: _Nodes, state: str, turn: int) -> str:
    """With so many entries of the slowest sites taken to the back."""
    return state if turn == 1 else nodes.add("Transpose", nodes.reshape(state, turn, -1))
