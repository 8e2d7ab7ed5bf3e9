"""The layers of a model that comes with its graph: their kinds are those of the operators that read the weights."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from adtn.layer import Layer
from adtn.listing import layers_of_state
from worker.graphs.schema import Graph, Node, Reference

WEIGHTS = {
    "aten.linear.default": ("weight", "linear"),
    "aten.embedding.default": ("weight", "embedding"),
    **{f"aten.conv{axes}d.{form}": ("weight", f"conv{axes}d") for axes in (1, 2, 3) for form in ("default", "padding")},
    **{
        f"aten.conv_transpose{axes}d.{form}": ("weight", f"conv_transpose{axes}d")
        for axes, form in ((1, "default"), (2, "input"), (3, "input"))
    },
    **{f"aten.{name}.input": ("params", "recurrent") for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "aten.matmul.default": ("other", "linear"),
    "aten.mm.default": ("mat2", "linear"),
    "aten.addmm.default": ("mat2", "linear"),
    "aten.convolution.default": ("weight", None),
}
"""Of each operator with a weight, the argument that it is, and the layer's kind; None where the shape tells."""
TURNED = {"aten.t.default", "aten.numpy_T.default", "aten.mT.default", "aten.transpose.int", "aten.permute.default"}


def layers_of_graph(graph: Graph, state: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The parameters with 2 or more dimensions, in the order of the state, tied ones once.

    The kind is that of the first operator that reads the parameter, directly or transposed, as its weight; a parameter
    that no such operator reads is a bare one.

    Args:
        graph: That reads them.
        state: Tensors by key.
    """
    kinds = _kinds(graph)
    own = {key: state[key] for key in state if key in graph.keys("parameter")}
    return tuple(replace(layer, kind=kinds.get(layer.key, "parameter") or layer.kind) for layer in layers_of_state(own))


def _kinds(graph: Graph) -> dict[str, str | None]:
    keys = {held.name: held.key for held in graph.held}
    found: dict[str, str | None] = {}
    for node in graph.nodes:
        if node.operator in TURNED:
            source = node.arguments.get("self")
            if isinstance(source, Reference) and source.value in keys and isinstance(node.results, str):
                keys[node.results] = keys[source.value]
        elif node.operator in WEIGHTS:
            for name in _weights(node):
                if name in keys:
                    found.setdefault(keys[name], WEIGHTS[node.operator][1])
    return found


def _weights(node: Node) -> list[str]:
    """Names of the values that an operator takes as weights."""
    value = node.arguments.get(WEIGHTS[node.operator][0])
    items = value if isinstance(value, tuple) else (value,)
    return [item.value for item in items if isinstance(item, Reference)]
