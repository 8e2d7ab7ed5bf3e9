"""Arrays of an untrusted data set: described by their headers, streamed in blocks, never held as a whole."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from jobs.problems import ProblemError

Array = NDArray[Any]
BLOCK_BYTES = 2**22


@dataclass(frozen=True)
class StoredArray:
    """An array as its header describes it.

    Attributes:
        name: train_x, train_y, test_x or test_y.
        where: The place in the upload, for messages.
        shape: Its sizes.
        dtype: Of the stored numbers, byte order included.
        open: Opens a stream that starts at the first number.
        fortran: Whether the first index runs fastest.
        is_bfloat16: Whether the 16-bit patterns are bfloat16, which numpy does not know.
    """

    name: str
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], BinaryIO]
    fortran: bool = False
    is_bfloat16: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of all numbers as stored."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_floating(self) -> bool:
        """Whether the numbers are floating-point."""
        return self.is_bfloat16 or self.dtype.kind == "f"


def blocks(array: StoredArray) -> Iterator[Array]:
    """The numbers of an array in C order, in flat native blocks of a few MB.

    Raises:
        ProblemError: `truncated_file` if the stream ends too early; `dataset_invalid` if it goes on after the end.
    """
    with array.open() as stream:
        if array.fortran:
            whole = np.frombuffer(_exactly(stream, array.bytes, array), array.dtype)
            yield _native(np.ascontiguousarray(whole.reshape(array.shape[::-1]).T).reshape(-1), array)
        else:
            step = BLOCK_BYTES - BLOCK_BYTES % array.dtype.itemsize
            for start in range(0, array.bytes, step):
                part = _exactly(stream, min(step, array.bytes - start), array)
                yield _native(np.frombuffer(part, array.dtype), array)
        if stream.read(1):
            raise ProblemError("dataset_invalid", f"{array.where}: more bytes than its shape {array.shape} needs")


def _exactly(stream: BinaryIO, count: int, array: StoredArray) -> bytes:
    """The next `count` bytes."""
    data = bytearray()
    while len(data) < count:
        part = stream.read(count - len(data))
        if not part:
            raise ProblemError(
                "truncated_file", f"{array.where}: expected {array.bytes} bytes for the shape {array.shape}, got fewer"
            )
        data += part
    return bytes(data)


def _native(flat: Array, array: StoredArray) -> Array:
    """The numbers in this machine's byte order; bfloat16, the upper half of a float32, widened."""
    if array.is_bfloat16:
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)
