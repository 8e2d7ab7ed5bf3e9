"""An exported program, read in the child: its graph and its tensors, both checked, and tried out together."""

from collections.abc import Mapping
from dataclasses import dataclass
from zipfile import ZipFile

from torch import Tensor

from jobs.problems import ProblemError
from worker.graphs.schema import Graph
from worker.graphs.trial import try_out
from worker.sandbox.exported.archive import INVALID, Archive
from worker.sandbox.exported.graph import clean_graph
from worker.sandbox.exported.schema import VERSION
from worker.sandbox.exported.tensors import read_tensors
from worker.sandbox.tensor_checks import check_layouts, check_names


@dataclass(frozen=True)
class ExportedProgram:
    """What is left of an exported program.

    Attributes:
        graph: Clean.
        state: The model's state_dict: parameters and buffers by their keys.
        constants: Tensors that belong to the graph alone, by keys that are not in the state.
    """

    graph: Graph
    state: dict[str, Tensor]
    constants: dict[str, Tensor]


def read_program(file: ZipFile) -> ExportedProgram:
    """Read an exported program.

    Args:
        file: Its directory was checked.

    Raises:
        ProblemError: `checkpoint_invalid`, `checkpoint_contains_code`, `unsupported_format`, `resource_limit`.
    """
    archive = Archive(file)
    program = archive.program()
    if program.schema_version.major != VERSION:
        raise ProblemError(
            "unsupported_format",
            f"expected an exported program of schema version {VERSION}, got {program.schema_version.major}: export the "
            "model again with torch 2.13",
        )
    state, constants = read_tensors(archive, "weights"), read_tensors(archive, "constants")
    if both := state.keys() & constants.keys():
        raise ProblemError(INVALID, f"expected {sorted(both)[0]!r} as a weight or as a constant, got both")
    check_names(state | constants)
    check_layouts(state | constants)
    graph = clean_graph(program)
    _require_same_keys(graph, state, constants)
    constants = {key: tensor for key, tensor in constants.items() if key in graph.keys("constant")}
    try_out(graph, state | constants)
    return ExportedProgram(graph, state, constants)


def _require_same_keys(graph: Graph, state: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
    """Refuse tensors that the graph does not know, and keys of the graph without a tensor."""
    known = graph.keys("parameter") | graph.keys("buffer")
    if strays := sorted(known ^ state.keys()):
        raise ProblemError(INVALID, f"expected the weights that the graph names, but {strays[0]!r} is on one side only")
    if missing := sorted(graph.keys("constant") - constants.keys()):
        raise ProblemError(INVALID, f"expected the constants that the graph names, got no {missing[0]!r}")
