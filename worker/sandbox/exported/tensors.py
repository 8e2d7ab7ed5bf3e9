"""The weights of an exported program: views of the bytes in its archive, each checked against them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from jobs.problems import ProblemError
from worker.sandbox.exported.archive import INVALID, Archive
from worker.sandbox.exported.schema import DTYPES, Payload, SymInt, TensorMeta
from worker.sandbox.tensor_file import quoted


def read_tensors(archive: Archive, folder: str) -> dict[str, Tensor]:
    """The tensors of a folder by key; those that share bytes there share memory.

    Args:
        archive: Of the program.
        folder: "weights" or "constants".

    Raises:
        ProblemError: `checkpoint_contains_code` for a pickled one; `checkpoint_invalid` for sizes that are not numbers,
            or that reach past the bytes.
    """
    blocks: dict[str, bytearray] = {}
    return {
        key: _tensor(archive, folder, key, payload, blocks) for key, payload in archive.payloads(folder).config.items()
    }


def _tensor(archive: Archive, folder: str, key: str, payload: Payload, blocks: dict[str, bytearray]) -> Tensor:
    where = f"tensor {quoted(key)}"
    meta = payload.tensor_meta
    if payload.use_pickle or meta is None:
        raise ProblemError(
            "checkpoint_contains_code", f"{where}: expected plain numbers, got a pickle, which is never run"
        )
    path = f"data/{folder}/{payload.path_name}"
    if path not in blocks:
        blocks[path] = bytearray(archive.read(path, where))
    return _view(where, blocks[path], meta)


def _view(where: str, block: bytearray, meta: TensorMeta) -> Tensor:
    dtype = getattr(torch, DTYPES[meta.dtype])
    sizes, strides, (offset,) = (
        _numbers(where, meta.sizes),
        _numbers(where, meta.strides),
        _numbers(where, [meta.storage_offset]),
    )
    if len(sizes) != len(strides):
        raise ProblemError(INVALID, f"{where}: expected {len(sizes)} strides, got {len(strides)}")
    if 0 in sizes:
        raise ProblemError(INVALID, f"{where}: expected at least one element, got the shape {sizes}")
    stored = len(block) // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if last >= stored:
        raise ProblemError(INVALID, f"{where}: expected {last + 1} stored numbers, got {stored}")
    return torch.frombuffer(block, dtype=dtype, count=stored).as_strided(sizes, strides, offset)


def _numbers(where: str, values: Sequence[SymInt]) -> list[int]:
    found = [value.content for value in values]
    for number in found:
        if type(number) is not int or number < 0:
            raise ProblemError(
                INVALID, f"{where}: expected whole numbers as sizes, strides and offset, got {quoted(number)}"
            )
    return found
