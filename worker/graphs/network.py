"""The network in a graph, as networks known by name are: for samples of a shape, with what a report says of it."""

from collections.abc import Mapping

from torch import Tensor

from jobs.problems import ProblemError
from worker.architectures.architecture import Architecture
from worker.graphs.build import build
from worker.graphs.caveats import caveats
from worker.graphs.schema import Graph, Input, Reference
from worker.graphs.trial import try_out

NAME = "exported program"


def network(graph: Graph, tensors: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build the network of a graph for samples of a shape.

    Args:
        graph: That the checkpoint carries.
        tensors: Its state and constants by key. They keep their dtypes, as the graph was made for them.
        input_shape: Of one sample, which may lack the dimension of a single channel; None if there are no data.

    Raises:
        ProblemError: `dataset_mismatch` if the graph takes no such samples or does not classify them;
            `checkpoint_mismatch`, `checkpoint_invalid` or `resource_limit` if it cannot be run.
    """
    shape = _shape(graph.input, input_shape)
    outputs = try_out(graph, tensors, shape)
    if input_shape is not None and len(outputs) != 1:
        raise ProblemError(
            "dataset_mismatch",
            f"the graph returns outputs of shape {outputs} for a sample, expected (classes,) to compare with labels",
        )
    model = build(graph, tensors)
    details = {
        "classes": outputs[0] if len(outputs) == 1 else None,
        "input": list(shape),
        "batch": str(graph.input.batch),
        "operators": len(graph.nodes),
        "notes": [],
    }
    return Architecture(NAME, model, shape, details, _numbers(graph, tensors), tuple(caveats(graph, model)))


def _shape(expected: Input, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of a sample as the graph takes it."""
    if given is None:
        return tuple(size.example for size in expected.sample)
    for shape in (tuple(given), (1, *given)):
        if len(shape) == len(expected.sample) and all(
            size.holds(length) for size, length in zip(expected.sample, shape, strict=True)
        ):
            return shape
    sizes = ", ".join(str(size) for size in expected.sample)
    raise ProblemError("dataset_mismatch", f"the graph takes samples of shape ({sizes}), got samples of shape {given}")


def _numbers(graph: Graph, tensors: Mapping[str, Tensor]) -> range | None:
    """Which numbers samples may hold, if the graph takes whole ones: rows of an embedding, where one reads them."""
    if "int" not in graph.input.dtype:
        return None
    keys = {held.name: held.key for held in graph.held}
    for node in graph.nodes:
        weight = node.arguments.get("weight")
        if (
            node.operator == "aten.embedding.default"
            and node.arguments.get("indices") == Reference(value=graph.input.name)
            and isinstance(weight, Reference)
            and weight.value in keys
        ):
            return range(len(tensors[keys[weight.value]]))
    return range(-(2**24), 2**24)  # beyond, float32 no longer has every whole number
