"""The decoded weights that the open `decoded_once` blocks of this thread hand out."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn


class HandedOut(NamedTuple):
    """A decoded weight and the gates that it stands for."""

    gates: Tensor
    weight: Tensor


class _Open(threading.local):
    """The open blocks of this thread, the outermost first; each has weights by their ADTN."""

    def __init__(self) -> None:
        self.blocks: list[Mapping[nn.Module, HandedOut]] = []


_open = _Open()


@contextmanager
def handing_out(weights: Mapping[nn.Module, HandedOut]) -> Iterator[None]:
    """While open, `handed_out` finds these weights."""
    _open.blocks.append(weights)
    try:
        yield
    finally:
        # Not the last one: blocks of two generators may end in any order.
        _open.blocks = [block for block in _open.blocks if block is not weights]


def handed_out(adtn: nn.Module, gates: Tensor, differentiable: bool) -> Tensor | None:
    """The weight that the innermost block has for an ADTN, or None.

    Args:
        adtn: Whose weight.
        gates: Its gates. None is returned if they are other ones than those that were decoded, as within
            `torch.func.functional_call`.
        differentiable: Whether the weight has to bring a gradient. None is returned if it cannot, as in a block opened
            under `torch.no_grad`.
    """
    for block in reversed(_open.blocks):
        found = block.get(adtn)
        if found is None or found.gates is not gates:
            continue
        if not differentiable:
            return found.weight.detach()
        if found.weight.requires_grad:
            return found.weight
    return None
