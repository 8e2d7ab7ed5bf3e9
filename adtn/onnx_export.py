"""A compressed model as an ONNX file: the network as torch exports it, and the decoding of each weight as nodes.

The decoding has constants for inputs only, so a runtime that folds constants decodes once, when it loads the file.

This module can only be imported where the extra "onnx" is installed: otherwise it raises ExportError.
"""

import os
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adtn.encoding import encoded_places
from adtn.errors import ExportError
from adtn.exporting import first_line, traced
from adtn.module import ADTN

try:
    import onnx
    import onnx_ir
    from onnxscript.optimizer import optimize

    from adtn.onnx_decoding import decode
    from adtn.onnx_nodes import OPSET, Nodes, add_to
except ImportError as error:
    raise ExportError(f"expected the packages of the extra 'onnx' (pip install 'adtn[onnx]'), got: {error}") from error


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
    nodes = Nodes({}, prefix="/")  # torch gives no such names
    weights: dict[ADTN, str] = {}
    for given in list(network.graph.input):
        if given.name not in held:
            continue
        network.graph.input.remove(given)
        adtn = held[given.name]
        if adtn not in weights:
            weights[adtn] = decode(nodes, adtn)
        nodes.add("Identity", weights[adtn], name=given.name)
    add_to(network, nodes)
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
