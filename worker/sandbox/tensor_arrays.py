"""Arrays of an untrusted data set in a safetensors file, without torch."""

from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from worker.sandbox.arrays import StoredArray
from worker.sandbox.sections import section
from worker.sandbox.tensor_file import ITEM_BYTES, Entry, read_header

KINDS = {"B": "b", "U": "u", "I": "i", "F": "f"}  # numpy's letter for the first letter of a dtype


def safetensors_arrays(source: BinaryIO, size: int) -> dict[str, StoredArray]:
    """The arrays of a safetensors file by name.

    Args:
        source: The upload.
        size: Its bytes.

    Raises:
        ProblemError: `truncated_file` or `dataset_invalid`.
    """

    def opener(entry: Entry) -> Callable[[], BinaryIO]:
        return lambda: section(source, entry.start, entry.stop)

    arrays = {}
    for entry in read_header(source, size, "dataset_invalid"):
        is_bfloat16 = entry.dtype == "BF16"
        dtype = np.dtype("<u2" if is_bfloat16 else f"<{KINDS[entry.dtype[0]]}{ITEM_BYTES[entry.dtype]}")
        where = f"tensor {entry.name!r}"
        arrays[entry.name] = StoredArray(entry.name, where, entry.shape, dtype, opener(entry), is_bfloat16=is_bfloat16)
    return arrays
