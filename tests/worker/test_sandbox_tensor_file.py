"""Our own reading and writing of the safetensors layout against the library's."""

import io
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize

from jobs.problems import ProblemError
from worker.sandbox.tensor_file import ITEM_BYTES, Entry, Outgoing, read_header, write

SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)
TENSORS = st.dictionaries(
    st.from_regex(r"[a-z]{1,4}(\.[a-z]{1,4})?", fullmatch=True), st.tuples(st.sampled_from(list(ITEM_BYTES)), SHAPES)
)


def outgoing(name: str, dtype: str, shape: tuple[int, ...]) -> Outgoing:
    empty = Outgoing(name, dtype, shape, list)
    content = (name.encode() * empty.bytes)[: empty.bytes]
    return Outgoing(name, dtype, shape, lambda: [content[:3], content[3:]])


@given(TENSORS)
def test_the_library_reads_what_is_written(tensors: dict[str, tuple[str, tuple[int, ...]]]):
    file = io.BytesIO()
    write(file, [outgoing(name, *form) for name, form in tensors.items()])
    read = dict(deserialize(file.getvalue()))
    assert read.keys() == tensors.keys()
    for name, (dtype, shape) in tensors.items():
        assert (read[name]["dtype"], tuple(read[name]["shape"])) == (dtype, shape)
        assert bytes(read[name]["data"]) == (name.encode() * 10**4)[: len(read[name]["data"])]


def test_chunks_that_do_not_add_up_are_noticed():
    with pytest.raises(ValueError, match="a: expected 8 bytes, got 4"):
        write(io.BytesIO(), [Outgoing("a", "F32", (2,), lambda: [bytes(4)])])


SIZES = st.one_of(st.integers(-1, 5), st.just(2**50), st.just(True), st.just("1"))
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "F8_E4M3", "X", 1]),
        "shape": st.lists(SIZES, max_size=3),
        "data_offsets": st.lists(st.integers(-1, 24), min_size=1, max_size=3),
    }
)
METADATA = st.one_of(st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=3), st.integers())), ENTRIES)
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "../c"]), ENTRIES, max_size=3)


def read_or_code(data: bytes) -> list[Entry] | str:
    """The tensors of a header, or the code of the problem that refuses it."""
    try:
        return read_header(io.BytesIO(data), len(data), "dataset_invalid")
    except ProblemError as problem:
        return problem.code


@given(HEADERS, st.none() | METADATA, st.integers(0, 24), st.integers(-2, 2))
def test_what_is_accepted_the_library_accepts_too_and_sees_the_same(
    header: dict, metadata: dict | None, size: int, shift: int
):
    text = json.dumps(header | ({} if metadata is None else {"__metadata__": metadata})).encode()
    data = struct.pack("<Q", max(0, len(text) + shift)) + text + bytes(size)
    entries = read_or_code(data)
    if isinstance(entries, str):
        assert entries in ("dataset_invalid", "truncated_file")
        return
    read = dict(deserialize(data))
    assert {entry.name: (entry.dtype, list(entry.shape)) for entry in entries} == {
        name: (tensor["dtype"], tensor["shape"]) for name, tensor in read.items()
    }
    for entry in entries:
        assert data[entry.start : entry.stop] == bytes(read[entry.name]["data"])


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes):
    assert read_or_code(data) in ([], "dataset_invalid", "truncated_file")
