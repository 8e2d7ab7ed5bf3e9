"""Torch tensors on their way into a safetensors file."""

from collections.abc import Iterator

import torch
from torch import Tensor

from worker.sandbox.tensor_file import Outgoing

TORCH_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
}
NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def outgoing(key: str, tensor: Tensor) -> Outgoing:
    """A checked tensor as `tensor_file.write` takes it; a copy is made only of one that is not contiguous."""

    def chunks() -> Iterator[memoryview]:
        flat = tensor.contiguous().reshape(-1)  # shape -> (numbers,)
        yield flat.view(torch.uint8).numpy().data

    return Outgoing(key, NAMES[tensor.dtype], tuple(tensor.shape), chunks)
