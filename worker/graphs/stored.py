"""Where a checked checkpoint keeps its graph: as a text beside its tensors, in one file that is there or is not."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from jobs.problems import ProblemError
from worker.graphs.schema import Graph
from worker.sandbox.tensor_file import read_metadata

ENTRY = "graph"
MAX_BYTES = 3_000_000
INVALID = "checkpoint_invalid"


def metadata_of(graph: Graph) -> dict[str, str]:
    """The metadata of a safetensors file that holds the tensors of a graph.

    Raises:
        ProblemError: `checkpoint_invalid` if the graph is too long.
    """
    text = graph.model_dump_json()
    if len(text) > MAX_BYTES:
        raise ProblemError(INVALID, f"expected a graph of at most {MAX_BYTES} bytes as JSON, got {len(text)}")
    return {ENTRY: text}


def graph_in(metadata: Mapping[str, str]) -> Graph | None:
    """The graph among the texts of a checked file, checked once more; None if it has none.

    Raises:
        ProblemError: `checkpoint_invalid`.
    """
    if ENTRY not in metadata:
        return None
    try:
        return Graph.model_validate_json(metadata[ENTRY])
    except ValidationError as error:
        detail = f"expected a graph as it was checked, got one with {error.error_count()} faults"
        raise ProblemError(INVALID, detail) from error


def read_graph(path: Path) -> Graph | None:
    """The graph that a checked checkpoint carries, or None.

    Args:
        path: A safetensors file that the sandbox wrote.

    Raises:
        ProblemError: `checkpoint_invalid`.
    """
    file: BinaryIO
    with path.open("rb") as file:
        return graph_in(read_metadata(file, path.stat().st_size, INVALID))
