"""The safetensors layout, checked more strictly than by its library, read and written without holding the tensors.

Layout: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes
without holes. The library accepts duplicate keys, shapes such as [0, 2**50], names such as "../../x" and headers of
100 MB; this reader does not. It needs no torch and no numpy, so the parent checks with it what the child wrote.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from jobs.problems import ProblemError

MAX_HEADER_BYTES = 5_000_000
MAX_TENSORS = 100_000
MAX_DIMS = 8
MAX_NAME = 512
METADATA = "__metadata__"
# Bytes a number, of the dtypes that are accepted.
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/+@-]*")


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: name, dtype, shape, and where its bytes start and stop in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Outgoing:
    """One tensor to write: name, dtype, shape, and a function that yields its bytes in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[bytes | memoryview]]

    @property
    def bytes(self) -> int:
        """Bytes that the chunks have to add up to."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def quoted(text: object, length: int = 80) -> str:
    """Text of unknown origin as a short, printable, quoted piece of a message."""
    short = str(text)[:length]
    return ascii(short) + ("..." if len(str(text)) > length else "")


def name_fault(name: object) -> str | None:
    """What is wrong with a tensor's name, or None."""
    if not isinstance(name, str):
        return f"expected a string as name, got {type(name).__name__} {quoted(name)}"
    if len(name) > MAX_NAME:
        return f"expected a name of at most {MAX_NAME} characters, got {len(name)}: {quoted(name)}"
    if not NAME.fullmatch(name) or ".." in name or name.endswith("."):
        return f"expected a name of letters, digits and _.:/+@- with no empty part, got {quoted(name)}"
    return None


def shape_fault(shape: Sequence[int]) -> str | None:
    """What is wrong with a tensor's shape, or None."""
    if len(shape) > MAX_DIMS:
        return f"expected at most {MAX_DIMS} dimensions, got {len(shape)}"
    if any(size == 0 for size in shape):
        return f"expected at least one element, got the shape {quoted(list(shape))}"
    return None


def read_header(file: BinaryIO, size: int, invalid: str) -> list[Entry]:
    """Read and check the header of a safetensors file.

    Args:
        file: Positioned anywhere; seekable.
        size: Its bytes.
        invalid: Code of the problem for what is well formed but not acceptable.

    Returns:
        The tensors in the order of the header.

    Raises:
        ProblemError: `truncated_file` or `invalid`.
    """
    header, data_start = _header(file, size, invalid)
    entries = [_entry(name, fields, data_start, invalid) for name, fields in header.items() if name != METADATA]
    if len(entries) > MAX_TENSORS:
        raise ProblemError(invalid, f"expected at most {MAX_TENSORS} tensors, got {len(entries)}")
    _require_gapless(entries, data_start, size, invalid)
    return entries


def read_metadata(file: BinaryIO, size: int, invalid: str) -> dict[str, str]:
    """Read the texts that a safetensors file carries beside its tensors.

    Args:
        file: Positioned anywhere; seekable.
        size: Its bytes.
        invalid: Code of the problem for what is well formed but not acceptable.

    Raises:
        ProblemError: `truncated_file` or `invalid`.
    """
    metadata: dict[str, str] = _header(file, size, invalid)[0].get(METADATA, {})
    return metadata


def _header(file: BinaryIO, size: int, invalid: str) -> tuple[dict[str, Any], int]:
    """The JSON of a file's header, its metadata checked, and where the tensors' bytes start."""
    file.seek(0)
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ProblemError("truncated_file", f"expected at least 8 bytes of safetensors, got {len(prefix)}")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise ProblemError(invalid, f"expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}")
    if 8 + length > size:
        raise ProblemError("truncated_file", f"the header needs {8 + length} bytes, the file has {size}")
    header = json_object(file.read(length), "the header", invalid)
    metadata = header.get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ProblemError(invalid, "expected __metadata__ to map strings to strings")
    return header, 8 + length


def write(file: BinaryIO, tensors: Sequence[Outgoing], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, one chunk in memory at a time.

    Args:
        file: Receives it.
        tensors: In any order.
        metadata: Texts beside them.

    Raises:
        ValueError: The chunks of a tensor do not add up to its size.
    """
    # Wide numbers first, as the library does: every tensor then starts at a multiple of its item size.
    tensors = sorted(tensors, key=lambda tensor: -ITEM_BYTES[tensor.dtype])
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    start = 0
    for tensor in tensors:
        offsets = [start, start + tensor.bytes]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        start = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors:
        written = sum(file.write(chunk) for chunk in tensor.chunks())
        if written != tensor.bytes:
            raise ValueError(f"{tensor.name}: expected {tensor.bytes} bytes, got {written}")


def json_object(text: bytes, what: str, invalid: str) -> dict[str, Any]:
    """The JSON object that a text is, in which no name may stand twice.

    Args:
        text: UTF-8.
        what: The text, as a message calls it.
        invalid: Code of the problem.

    Raises:
        ProblemError: `invalid`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ProblemError(invalid, f"{what} names {quoted(name)} more than once")
            found[name] = value
        return found

    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ProblemError(invalid, f"{what} is not JSON") from error
    if not isinstance(found, dict):
        raise ProblemError(invalid, f"expected {what} to be a JSON object, got {type(found).__name__}")
    return found


def _entry(name: str, fields: Any, data_start: int, invalid: str) -> Entry:
    """One tensor of the header, its own numbers checked."""
    if fault := name_fault(name):
        raise ProblemError(invalid, fault)
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ProblemError(invalid, f"tensor {name!r}: expected dtype, shape and data_offsets in the header")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if dtype not in ITEM_BYTES if isinstance(dtype, str) else True:
        raise ProblemError(
            invalid, f"tensor {name!r}: expected a dtype of {', '.join(ITEM_BYTES)}, got {quoted(dtype)}"
        )
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ProblemError(invalid, f"tensor {name!r}: expected integers as shape and two as data_offsets")
    if fault := shape_fault(shape):
        raise ProblemError(invalid, f"tensor {name!r}: {fault}")
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        got = quoted(offsets[1] - offsets[0])
        raise ProblemError(invalid, f"tensor {name!r}: shape and dtype need {quoted(needed)} bytes, offsets hold {got}")
    return Entry(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_sizes(values: Any) -> bool:
    """Whether this is a list of integers from 0 to 2**60."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= 2**60 for value in values)


def _require_gapless(entries: Sequence[Entry], data_start: int, size: int, invalid: str) -> None:
    """Refuse holes, overlaps, missing bytes and bytes that belong to no tensor."""
    position = data_start
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start != position:
            kind = "overlaps the tensor before it" if entry.start < position else "leaves a hole before it"
            raise ProblemError(
                invalid, f"tensor {entry.name!r} {kind}: expected it at byte {position}, got {entry.start}"
            )
        position = entry.stop
    if position > size:
        raise ProblemError("truncated_file", f"the tensors need {position} bytes, the file has {size}")
    if position < size:
        raise ProblemError(invalid, f"the tensors end at byte {position}, the file goes on to {size}")
