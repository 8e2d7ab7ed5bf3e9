"""Arrays of an untrusted archive of IDX files, the layout of MNIST: http://yann.lecun.com/exdb/mnist/.

An IDX file: two zero bytes, a byte for the type, a byte for the number of dimensions, the sizes as big-endian 32-bit
integers, then the numbers, big-endian too.
"""

import gzip
import re
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

import numpy as np

from jobs.problems import ProblemError
from worker.sandbox.archives import Member, capped
from worker.sandbox.arrays import StoredArray
from worker.sandbox.tensor_file import MAX_DIMS, quoted

FILE_NAME = re.compile(r"(train|t10k|test)[-_.](images|labels)[-_.]idx\d[-_.]ubyte(\.gz)?", re.IGNORECASE)
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SPLITS = {"train": "train", "t10k": "test", "test": "test"}
PARTS = {"images": "x", "labels": "y"}
EXPECTED_FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}


def holds_idx(members: Iterable[Member]) -> bool:
    """Whether any file is named like one of the four."""
    return any(member.path and FILE_NAME.fullmatch(member.path.name) for member in members)


def idx_arrays(members: Sequence[Member], limit: int) -> dict[str, StoredArray]:
    """The arrays train_x, train_y, test_x, test_y of an archive, in whatever folder of it they are.

    Args:
        members: Regular files of the archive; those of other names are not looked at. Of a file that lies beside itself
            with .gz, as libraries that download it leave it, the one without is read.
        limit: Bytes that one member may expand to.

    Raises:
        ProblemError: `dataset_invalid` if one is missing, there twice or no IDX file; `truncated_file`;
            `resource_limit`.
    """
    found: dict[str, Member] = {}
    for member in members:
        match = FILE_NAME.fullmatch(member.path.name) if member.path else None
        if match is None:
            continue
        name = f"{SPLITS[match[1].lower()]}_{PARTS[match[2].lower()]}"
        found[name] = member if name not in found else _one_of_twins(found[name], member)
    missing = [file for name, file in EXPECTED_FILES.items() if name not in found]
    if missing:
        raise ProblemError(
            "dataset_invalid",
            f"the archive lacks {', '.join(missing)} (each as it is or with .gz; links are not followed)",
        )
    return {name: _array(name, member, limit) for name, member in found.items()}


def _one_of_twins(one: Member, other: Member) -> Member:
    """Of a file that lies beside itself with .gz, the one without.

    Raises:
        ProblemError: `dataset_invalid`: they are two files.
    """
    for plain, packed in ((one, other), (other, one)):
        if packed.name.lower() == f"{plain.name}.gz".lower():
            return plain
    raise ProblemError("dataset_invalid", f"expected one file, got {quoted(one.name)} and {quoted(other.name)}")


def _array(name: str, member: Member, limit: int) -> StoredArray:
    """One array as the header of its IDX file describes it."""
    where = quoted(member.name)

    def opener() -> BinaryIO:
        stream = member.open()
        if member.name.lower().endswith(".gz"):
            stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        return capped(stream, limit, where)

    with opener() as stream:
        start = stream.read(4)
        if len(start) < 4:
            raise ProblemError("truncated_file", f"{where}: expected at least 4 bytes, got {len(start)}")
        if start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= MAX_DIMS:
            raise ProblemError(
                "dataset_invalid", f"{where}: expected an IDX file, got one that starts {start.hex(' ')}"
            )
        sizes = stream.read(4 * start[3])
        if len(sizes) < 4 * start[3]:
            raise ProblemError("truncated_file", f"{where}: the header is cut short")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    return StoredArray(name, where, shape, np.dtype(TYPES[start[2]]), _after(opener, 4 + len(sizes)))


def _after(opener: Callable[[], BinaryIO], start: int) -> Callable[[], BinaryIO]:
    """Opens the stream `start` bytes in."""

    def opened() -> BinaryIO:
        stream = opener()
        stream.read(start)
        return stream

    return opened
