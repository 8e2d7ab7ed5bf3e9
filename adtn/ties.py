"""Tied tensors of a state_dict: one copy and the further keys."""

from collections.abc import Mapping

from torch import Tensor


def gather_ties(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split a state_dict into one tensor a tied group and the aliases.

    Two entries are tied when they are the same numbers in the same memory: same address, shape, strides and dtype.

    Args:
        state: Tensors by key.

    Returns:
        The tensors to keep, under their first key; and for every other key of a group, that first key.
    """
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[object, str] = {}
    for key, tensor in state.items():
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.data_ptr() and identity in first:  # empty tensors and those without data have address 0
            aliases[key] = first[identity]
        else:
            first[identity] = key
            kept[key] = tensor
    return kept, aliases
