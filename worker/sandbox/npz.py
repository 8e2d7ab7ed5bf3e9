"""Arrays of an untrusted .npz: the headers are parsed here, objects are never unpickled."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from jobs.problems import ProblemError
from worker.sandbox.archives import Member, capped
from worker.sandbox.arrays import StoredArray
from worker.sandbox.tensor_file import quoted

HEADER_BYTES = 10_000


def npz_arrays(members: Sequence[Member], names: Sequence[str], limit: int) -> dict[str, StoredArray]:
    """The arrays of the given names; other members are not looked at.

    Args:
        members: Of the checked zip.
        names: Without ".npy".
        limit: Bytes that one member may expand to.

    Raises:
        ProblemError: `dataset_invalid`, `truncated_file` or `resource_limit`.
    """
    by_name = {member.name.removesuffix(".npy"): member for member in members}
    return {name: _array(name, by_name[name], limit) for name in names if name in by_name}


def _array(name: str, member: Member, limit: int) -> StoredArray:
    """One array as its header describes it."""
    where = f"{name}.npy"

    def opener() -> BinaryIO:
        return capped(member.open(), limit, where)

    with opener() as stream:
        shape, fortran, dtype = _header(stream, where)
        start = stream.tell()
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ProblemError("dataset_invalid", f"{where}: expected numbers, got the dtype {quoted(dtype)}")
    if any(size < 0 for size in shape):
        raise ProblemError("dataset_invalid", f"{where}: expected sizes of 0 or more, got {quoted(shape)}")
    return StoredArray(name, where, shape, dtype, _from(opener, start), fortran=fortran and len(shape) > 1)


def _header(stream: BinaryIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of a .npy stream, which is left at its first number."""
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream, max_header_size=HEADER_BYTES)
        return np.lib.format.read_array_header_2_0(stream, max_header_size=HEADER_BYTES)
    except (ValueError, SyntaxError, TypeError, RecursionError) as error:
        raise ProblemError("dataset_invalid", f"{where}: expected an array in numpy's format") from error


def _from(opener: Callable[[], BinaryIO], start: int) -> Callable[[], BinaryIO]:
    """Opens the stream `start` bytes in."""

    def opened() -> BinaryIO:
        stream = opener()
        stream.read(start)
        return stream

    return opened
