"""A checkpoint, read in the child: recognised by its content, checked, and written again as safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from zipfile import ZipFile

from torch import Tensor

from adtn.layer import Layer
from adtn.listing import layers_of_state
from jobs.catalogue import EXPORTED_PROGRAM
from worker.graphs.layers import layers_of_graph
from worker.graphs.schema import Graph
from worker.graphs.stored import metadata_of
from worker.sandbox.archives import checked_zip
from worker.sandbox.exported.archive import is_program
from worker.sandbox.exported.program import read_program
from worker.sandbox.formats import START_BYTES, format_of
from worker.sandbox.limits import Budget
from worker.sandbox.prefixes import common_prefix, prefix_note
from worker.sandbox.safetensors_file import tensors_of_file
from worker.sandbox.state import is_lightning, named_tensors
from worker.sandbox.tensor_checks import check_names, check_tensors, check_total, tied
from worker.sandbox.tensor_file import write
from worker.sandbox.tensor_output import outgoing
from worker.sandbox.torch_file import load_pickle, load_zip

# Buffers of batch norm: state, but nothing that training sets or compression counts.
STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


@dataclass(frozen=True)
class Weights:
    """The tensors of a file.

    Attributes:
        format: How they were stored.
        tensors: By key.
        notes: On where they were.
        lightning: Whether Lightning wrote the file.
        graph: That the file carries besides, if any.
        constants: Keys of tensors that belong to the graph alone, and are in no state_dict.
    """

    format: str
    tensors: dict[str, Tensor]
    notes: list[str]
    lightning: bool
    graph: Graph | None = None
    constants: frozenset[str] = frozenset()


def read_checkpoint(source: BinaryIO, filename: str, output: BinaryIO, budget: Budget) -> Mapping[str, Any]:
    """Read an untrusted checkpoint, check every tensor and write it as safetensors.

    Args:
        source: The upload.
        filename: Its ending is a hint where the content says nothing.
        output: Receives the checked tensors: own keys but for the prefix of wrappers, own dtypes, tied ones once.
        budget: Not needed: the limits of the process hold, and the output is no larger than the upload.

    Returns:
        The JSON of `worker.sandbox.answer.Answer`.

    Raises:
        ProblemError: The file is refused.
    """
    size = source.seek(0, 2)
    weights = _open(source, size, filename)
    tensors, prefix, notes = _without_prefix(weights)
    constants = {key: tensor for key, tensor in tensors.items() if key in weights.constants}
    state = {key: tensor for key, tensor in tensors.items() if key not in weights.constants}
    aliases = tied(state)
    state = {key: tensor for key, tensor in state.items() if key not in aliases}
    kept = state | constants
    check_total(kept, size)
    check_tensors(state)  # not constants: a mask may hold infinite numbers
    metadata = metadata_of(weights.graph) if weights.graph is not None else None
    write(output, [outgoing(key, tensor) for key, tensor in kept.items()], metadata)
    layers = layers_of_graph(weights.graph, state) if weights.graph is not None else layers_of_state(state)
    parameters = sum(tensor.numel() for key, tensor in state.items() if _is_parameter(key, tensor))
    summary = {"parameters": parameters, "layers": len(layers), "key_prefix": prefix, "notes": notes}
    rows = [_row(layer, state[layer.key]) for layer in layers]
    return {"format": weights.format, "summary": summary, "layers": rows, "aliases": aliases}


def _open(source: BinaryIO, size: int, filename: str) -> Weights:
    """Recognise a file and open it."""
    source.seek(0)
    found = format_of(source.read(START_BYTES), "checkpoint", filename)
    if found == "safetensors":
        state = tensors_of_file(source, size)
        check_names(state)
        return Weights(found, state, [], lightning=False)
    if found == "zip":
        archive = checked_zip(source, size, "checkpoint_invalid")
        if is_program(archive.namelist()):
            return _weights_of_program(archive)
    loaded = load_zip(source, size) if found == "zip" else load_pickle(source, size)
    return Weights("pytorch", *named_tensors(loaded), lightning=is_lightning(loaded))


def _weights_of_program(archive: ZipFile) -> Weights:
    """The tensors of an exported program, with its graph."""
    program = read_program(archive)
    note = f"carries its graph of {len(program.graph.nodes)} operators"
    tensors = program.state | program.constants
    return Weights(EXPORTED_PROGRAM, tensors, [note], False, program.graph, frozenset(program.constants))


def _without_prefix(weights: Weights) -> tuple[dict[str, Tensor], str, list[str]]:
    """The tensors by their own keys, the prefix that wrappers had put before them, and all notes."""
    prefix = "" if weights.graph is not None else common_prefix(weights.tensors, lightning=weights.lightning)
    if not prefix:
        return weights.tensors, "", weights.notes
    tensors = {key.removeprefix(prefix): tensor for key, tensor in weights.tensors.items()}
    check_names(tensors)
    return tensors, prefix, [*weights.notes, prefix_note(prefix, len(tensors))]


def _row(layer: Layer, tensor: Tensor) -> dict[str, Any]:
    """A layer that might be encoded, with dtype and number of parameters."""
    return {**layer.to_json(), "dtype": str(tensor.dtype).removeprefix("torch."), "parameters": layer.entries}


def _is_parameter(key: str, tensor: Tensor) -> bool:
    """Whether a tensor counts as parameters: floating, and not a running statistic."""
    return tensor.is_floating_point() and key.rpartition(".")[2] not in STATISTICS
