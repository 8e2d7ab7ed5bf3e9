"""An untrusted safetensors file as torch tensors over its mapped bytes."""

import mmap
from collections.abc import Sequence
from typing import BinaryIO

import torch
from torch import Tensor

from jobs.problems import ProblemError
from worker.sandbox.tensor_file import ITEM_BYTES, Entry, read_header
from worker.sandbox.tensor_output import TORCH_DTYPES


def tensors_of_file(source: BinaryIO, size: int) -> dict[str, Tensor]:
    """Check the header and map the tensors; they are read only when they are used.

    Args:
        source: The upload.
        size: Its bytes.

    Raises:
        ProblemError: `truncated_file`, `checkpoint_invalid` or `not_a_checkpoint`.
    """
    entries = read_header(source, size, "checkpoint_invalid")
    if not entries:
        raise ProblemError("not_a_checkpoint", "expected tensors by name, got a file without tensors")
    # Private and writable: torch warns of read-only memory. Nothing writes to it.
    return tensors_in_memory(mmap.mmap(source.fileno(), size, access=mmap.ACCESS_COPY), entries)


def tensors_in_memory(mapped: mmap.mmap, entries: Sequence[Entry]) -> dict[str, Tensor]:
    """The tensors of a file that is in memory.

    Args:
        mapped: The bytes of the file.
        entries: Its header, checked.
    """
    tensors = {}
    for entry in entries:
        aligned = entry.start % ITEM_BYTES[entry.dtype] == 0
        memory = mapped if aligned else bytearray(mapped[entry.start : entry.stop])
        numbers = (entry.stop - entry.start) // ITEM_BYTES[entry.dtype]
        offset = entry.start if aligned else 0
        flat = torch.frombuffer(memory, dtype=TORCH_DTYPES[entry.dtype], count=numbers, offset=offset)
        tensors[entry.name] = flat.reshape(entry.shape)  # (numbers,) -> shape
    return tensors
