"""A compressed model as a program that runs without this package: traced by torch, its decoding inside."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from adtn.errors import ExportError
from adtn.module import ADTN
from adtn.tracing import PlainADTN, traceable

_NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What a trace notes of the code that it came from: paths of this machine, and most of a small file."""


def save_program(model: nn.Module, sample: Sequence[int], path: str | os.PathLike[str]) -> None:
    """Write a program that `torch.export.load` reads; its parameters are the gates and what stayed dense.

    Gates in few bits are buffers of whole numbers instead.

    It computes in float32, in evaluation mode, on any number of samples, and decodes the weights each time.

    Args:
        model: Compressed or not; not changed.
        sample: Shape of one sample.
        path: Of the file.

    Raises:
        ExportError: The model cannot be traced for any number of samples.
    """
    torch.export.save(traced(model, sample, PlainADTN), path)


def traced(model: nn.Module, sample: Sequence[int], stand_in: Callable[[ADTN], nn.Module]) -> ExportedProgram:
    """A model's program, without notes on the code that it came from.

    Args:
        model: Compressed or not; not changed.
        sample: Shape of one sample.
        stand_in: Makes what takes the place of each ADTN: see `adtn.tracing.traceable`.

    Raises:
        ExportError: The model cannot be traced for any number of samples.
    """
    inputs = (torch.zeros(2, *sample),)  # two: a single one might be taken for a constant
    try:
        program = torch.export.export(traceable(model, stand_in), inputs, dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # a model may refuse to be traced in any way
        raise ExportError(
            f"the model cannot be traced for samples of shape {tuple(sample)}: {first_line(error)}"
        ) from error
    for node in program.graph.nodes:
        for note in _NOTES:
            node.meta.pop(note, None)
    program.example_inputs = None
    return program


def first_line(error: BaseException) -> str:
    """An error of torch in one line: advice and traces follow it."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
