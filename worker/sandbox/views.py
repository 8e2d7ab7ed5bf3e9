"""Tensors that share memory without being the same tensor: slices, transposes and other views of one another."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor


def own_numbers(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """How many numbers of each tensor no tensor before it has, where this is not simply all of them.

    Args:
        tensors: Checked by `check_layouts`; none is another's alias.

    Returns:
        By the keys of all tensors in a block of memory of which some numbers belong to several tensors.

    Takes a byte for each byte of the blocks that several tensors lie in.
    """
    blocks = Counter(_block(tensor) for tensor in tensors.values())
    taken: dict[int, Tensor] = {}
    own: dict[str, int] = {}
    for key, tensor in tensors.items():
        block = _block(tensor)
        if blocks[block] > 1:
            seen = _bytes_of(tensor, taken.setdefault(block, torch.zeros(_size(tensor), dtype=torch.bool)))
            own[key] = tensor.numel() - int(seen.count_nonzero()) // tensor.itemsize
            seen.fill_(True)
    shared = {_block(tensors[key]) for key, numbers in own.items() if numbers < tensors[key].numel()}
    return {key: numbers for key, numbers in own.items() if _block(tensors[key]) in shared}


def _block(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def _bytes_of(tensor: Tensor, marks: Tensor) -> Tensor:
    """The marks of a tensor's bytes, one a byte of its block: (*shape, bytes of a number)."""
    width = tensor.itemsize
    strides = (*(stride * width for stride in tensor.stride()), 1)
    return marks.as_strided((*tensor.shape, width), strides, tensor.storage_offset() * width)
