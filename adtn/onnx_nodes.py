"""Nodes of an ONNX graph, written in as few bytes as they can be.

A node takes about fifty bytes, more than the numbers of a small gate. So what recurs is a function of the model: its
nodes are written once, and each use is one node more. A runtime puts the nodes in the place of the calls.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from string import ascii_letters, digits
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

OPSET = 20
"""The first that has Gelu."""
DOMAIN = "adtn"
"""Of the functions."""


class Nodes:
    """Nodes in the order in which they run, under short names, and the constants that they read.

    Args:
        functions: Of the model. Where nodes call one that is not there yet, it is added, after those that it calls.
        prefix: What the names begin with.

    Attributes:
        made: The nodes.
        constants: By dtype, shape and content: equal ones are stored once.
        functions: By what they depend on.
    """

    def __init__(self, functions: dict[Hashable, onnx.FunctionProto], prefix: str) -> None:
        self.made: list[onnx.NodeProto] = []
        self.constants: dict[tuple[torch.dtype, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self.functions = functions
        self._names = _short_names(prefix)

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node with one output; the output's name."""
        return self.add_many(operator, *inputs, names=[name or next(self._names)], **attributes)[0]

    def add_many(self, operator: str, *inputs: str, names: list[str], **attributes: Any) -> list[str]:
        """A node with several outputs; their names."""
        self.made.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def call(self, body: Callable[..., str], inputs: Sequence[str], *facts: Hashable) -> str:
        """A call of the function that `body` makes; the name of its output.

        Args:
            body: Adds the nodes of the function: called with its nodes, the names of its inputs, and the facts.
            inputs: Names.
            facts: What the nodes depend on. For the same body and facts there is one function.
        """
        key = (body, len(inputs), facts)
        if key not in self.functions:
            self.functions[key] = self._function(body, len(inputs), facts)
        return self.add(self.functions[key].name, *inputs, domain=DOMAIN)

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

    def _function(self, body: Callable[..., str], inputs: int, facts: tuple[Hashable, ...]) -> onnx.FunctionProto:
        inner = Nodes(self.functions, prefix="")
        names = [next(inner._names) for _ in range(inputs)]
        output = body(inner, *names, *facts)
        constants = []
        for tensor in inner.constants.values():
            name = tensor.name
            tensor.ClearField("name")
            constants.append(helper.make_node("Constant", [], [name], value=tensor))
        return helper.make_function(
            DOMAIN,
            f"{body.__name__.strip('_')}{len(self.functions)}",
            names,
            [output],
            [*constants, *inner.made],
            [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        )


def add_to(model: onnx.ModelProto, nodes: Nodes) -> None:
    """Let nodes run before those of a model, with their constants and functions.

    Args:
        model: Gets them.
        nodes: Under names that the model has not.
    """
    graph = model.graph
    after = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes.made, *after])
    graph.initializer.extend(nodes.constants.values())
    if nodes.functions:
        model.functions.extend(nodes.functions.values())
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _short_names(prefix: str) -> Iterator[str]:
    """All names that a prefix begins, the short ones first."""
    for length in itertools.count(1):
        for signs in itertools.product(ascii_letters + digits, repeat=length):
            yield prefix + "".join(signs)
