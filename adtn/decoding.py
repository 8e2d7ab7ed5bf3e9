"""Decode each weight once while a block of code runs, however often it is used."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class _Decoded(threading.local):
    """The decoded weights of this thread, or None outside of `decoded_once`."""

    def __init__(self) -> None:
        self.tensors: dict[tuple[int, bool], Tensor] | None = None
        self.owners: list[nn.Module] = []


_decoded = _Decoded()


@contextmanager
def decoded_once() -> Iterator[None]:
    """Within the block, decode every encoded weight at most once and then reuse it.

    Wrap one training step, so that tied weights, recurrent layers and micro-batches share one decoding, or a whole
    evaluation. Gates changed inside the block are not seen until it ends. Unlike `torch.nn.utils.parametrize.cached`
    it holds for one thread, and tells a model from its deep copy.

    Example:
        >>> with decoded_once():
        ...     loss = criterion(model(inputs), labels)
        >>> loss.backward()
    """
    if _decoded.tensors is not None:  # nested: the outer block decides how long
        yield
        return
    _decoded.tensors = {}
    try:
        yield
    finally:
        _decoded.tensors = None
        _decoded.owners.clear()


def recall(owner: nn.Module, with_grad: bool) -> Tensor | None:
    """What `remember` kept for this ADTN in the current block, or None."""
    return None if _decoded.tensors is None else _decoded.tensors.get((id(owner), with_grad))


def remember(owner: nn.Module, with_grad: bool, tensor: Tensor) -> None:
    """Keep a decoded weight until the current block ends; outside of a block, nothing."""
    if _decoded.tensors is not None:
        _decoded.tensors[id(owner), with_grad] = tensor
        _decoded.owners.append(owner)  # an id is only unique while its object lives
