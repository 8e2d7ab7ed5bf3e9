"""A checkpoint, read in the child: recognised by its content, checked, and written again as safetensors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from torch import Tensor

from adtn.layer import Layer
from adtn.listing import layers_of_state
from worker.graphs.layers import layers_of_graph
from worker.graphs.stored import metadata_of
from worker.sandbox.limits import Budget
from worker.sandbox.opening import Weights, open_weights
from worker.sandbox.prefixes import common_prefix, prefix_note
from worker.sandbox.tensor_checks import check_names, check_tensors, check_total, tied
from worker.sandbox.tensor_file import write
from worker.sandbox.tensor_output import outgoing
from worker.sandbox.views import own_numbers

# Buffers of batch norm: state, but nothing that training sets or compression counts.
STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}
SHARED = "its memory is shared with other tensors, in another form, which it would no longer equal"


def read_checkpoint(source: BinaryIO, filename: str, output: BinaryIO, budget: Budget) -> Mapping[str, Any]:
    """Read an untrusted checkpoint, check every tensor and write it as safetensors.

    Args:
        source: The upload.
        filename: Its ending is a hint where the content says nothing.
        output: Receives the checked tensors: own keys but for the prefix of wrappers, own dtypes, tied ones once.
        budget: `output_bytes` is the most that an archive of shards may expand to.

    Returns:
        The JSON of `worker.sandbox.answer.Answer`.

    Raises:
        ProblemError: The file is refused.
    """
    size = source.seek(0, 2)
    weights = open_weights(source, size, filename, budget.output_bytes)
    tensors, prefix, notes = _without_prefix(weights)
    constants = {key: tensor for key, tensor in tensors.items() if key in weights.constants}
    state = {key: tensor for key, tensor in tensors.items() if key not in weights.constants}
    aliases = tied(state)
    state = {key: tensor for key, tensor in state.items() if key not in aliases}
    kept = state | constants
    check_total(kept)
    check_tensors(state)  # not constants: a mask may hold infinite numbers
    metadata = metadata_of(weights.graph) if weights.graph is not None else None
    write(output, [outgoing(key, tensor) for key, tensor in kept.items()], metadata)
    layers = layers_of_graph(weights.graph, state) if weights.graph is not None else layers_of_state(state)
    own = own_numbers(state)
    parameters = sum(own.get(key, tensor.numel()) for key, tensor in state.items() if _is_parameter(key, tensor))
    summary = {"parameters": parameters, "layers": len(layers), "key_prefix": prefix, "notes": notes}
    rows = [_row(layer, state[layer.key], layer.key in own) for layer in layers]
    return {"format": weights.format, "summary": summary, "layers": rows, "aliases": aliases}


def _without_prefix(weights: Weights) -> tuple[dict[str, Tensor], str, list[str]]:
    """The tensors by their own keys, the prefix that wrappers had put before them, and all notes."""
    prefix = "" if weights.graph is not None else common_prefix(weights.tensors, lightning=weights.lightning)
    if not prefix:
        return weights.tensors, "", weights.notes
    tensors = {key.removeprefix(prefix): tensor for key, tensor in weights.tensors.items()}
    check_names(tensors)
    return tensors, prefix, [*weights.notes, prefix_note(prefix, len(tensors))]


def _row(layer: Layer, tensor: Tensor, shared: bool) -> dict[str, Any]:
    """A layer with dtype and number of parameters; it cannot be encoded if it shares memory."""
    if shared:
        layer = replace(layer, eligible=False, reason=SHARED)
    return {**layer.to_json(), "dtype": str(tensor.dtype).removeprefix("torch."), "parameters": layer.entries}


def _is_parameter(key: str, tensor: Tensor) -> bool:
    """Whether a tensor counts as parameters: floating, and not a running statistic."""
    return tensor.is_floating_point() and key.rpartition(".")[2] not in STATISTICS
