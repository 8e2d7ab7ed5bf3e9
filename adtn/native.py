"""The passes of a contraction on the CPU: the compiled loops of `adtn.kernels`, in threads."""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adtn import kernels
from adtn.passes import Pass
from adtn.recycling import recycled

_T = TypeVar("_T")

MAX_WIDTH = 2**13
"""Widest window: a block is then half a MiB of float32, and 24 binary sites take two passes a TN layer."""

MIN_WIDTH = 2**8
"""Narrower windows are not worth their passes: a block of this size takes microseconds even if few lanes are used."""

PIECE_WORK = 2**20
"""Entries times gates of a piece of a pass, at least: to hand a smaller one to a thread takes as long as to run it."""

MOST_PIECES = 16
"""Of a pass. More would share the work more evenly, but each has a gradient of its own."""

GRADIENTS_SHARE = 1 / 4
"""Of the tensor's memory, that the gradients of all pieces may take: there are fewer pieces then, but two at least."""


def width_for(size: int) -> int:
    """Width of the windows for a tensor of `size` entries: as wide as leaves positions for all lanes."""
    return min(MAX_WIDTH, max(MIN_WIDTH, size // kernels.LANES))


class NativePasses:
    """Runs passes on flat CPU tensors of one dtype, float32 or float64.

    Args:
        passes: What to run.
        gates: (items, numbers); each item is a tensor network of its own.
        activation: Between TN layers.
    """

    def __init__(self, passes: tuple[Pass, ...], gates: Tensor, activation: str) -> None:
        self.passes = passes
        self._gates = gates.detach().contiguous().numpy()
        self._activation = kernels.ACTIVATIONS[activation]
        self._gradient = np.zeros(gates.shape)

    def forward(self, i: int, x: Tensor, y: Tensor) -> None:
        """Pass i: read x, write y, which may be x if it has as many entries."""
        step = self.passes[i]
        sweep = _sweep(step, self._activation)
        arrays = x.detach().numpy(), y.detach().numpy()

        def run(chunks: tuple[int, int]) -> None:
            kernels.forward(*arrays, self._gates, sweep, chunks, _buffers(step, 2, self._gates.dtype))

        _in_threads(run, step, len(self._gates))

    def backward(self, i: int, x: Tensor, grad: Tensor, grad_x: Tensor) -> None:
        """Differentiate pass i: the gradient of what it wrote becomes that of x, and the gates' is added up."""
        step = self.passes[i]
        sweep = _sweep(step, self._activation)
        arrays = x.detach().numpy(), grad.detach().numpy(), grad_x.numpy()

        def run(chunks: tuple[int, int]) -> NDArray[np.float64]:
            part = np.zeros_like(self._gradient)
            buffers = _buffers(step, len(step.gates) + 3, self._gates.dtype)
            kernels.backward(arrays, self._gates, part, sweep, chunks, buffers)
            return part

        tensor = len(self._gates) * max(step.entries_before, step.entries_after) * self._gates.dtype.itemsize
        most = max(2, int(GRADIENTS_SHARE * tensor / self._gradient.nbytes))
        for part in _in_threads(run, step, len(self._gates), most):
            self._gradient += part

    def gradient(self) -> Tensor:
        """Of the gates (items, numbers), after `backward` of every pass."""
        return torch.from_numpy(self._gradient).to(torch.from_numpy(self._gates).dtype)

    def empty(self, entries: int) -> Tensor:
        """Room for a tensor."""
        return torch.from_numpy(recycled(entries, self._gates.dtype))


@lru_cache(maxsize=1024)
def _sweep(step: Pass, activation: int) -> kernels.Sweep:
    gates = np.array([(gate.start, gate.out, gate.into, gate.left, gate.right) for gate in step.gates])
    return kernels.Sweep(step.left, step.before, step.after, step.right, activation if step.activate else 0, gates)


@lru_cache(maxsize=1024)
def _block(step: Pass) -> int:
    """Entries of a block of one position, at its largest."""
    return max(step.before, *(gate.left * gate.out * gate.right for gate in step.gates))


class _Local(threading.local):
    """The buffers of a thread, kept: to get them anew takes longer than a small pass."""

    def __init__(self) -> None:
        self.bytes = np.empty(0, np.uint8)


_local = _Local()


def _buffers(step: Pass, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(count, entries of the largest block of LANES positions)."""
    entries = _block(step) * kernels.LANES
    needed = count * entries * dtype.itemsize
    if _local.bytes.size < needed:
        _local.bytes = np.empty(needed, np.uint8)
    return _local.bytes[:needed].view(dtype).reshape(count, entries)


def _in_threads(run: Callable[[tuple[int, int]], _T], step: Pass, items: int, most: int = MOST_PIECES) -> list[_T]:
    """Run on all chunks, in pieces that do not depend on the number of threads; the results in their order.

    The threads, as many as torch uses, take piece after piece: one that gets no core, because those of torch still wait
    actively for their next work, holds nobody up.
    """
    chunks = items * math.ceil(step.left * step.right / kernels.LANES)
    work = items * max(step.entries_before, step.entries_after) * len(step.gates)
    pieces = max(1, min(most, MOST_PIECES, chunks, work // PIECE_WORK))
    ranges = list(pairwise(chunks * k // pieces for k in range(pieces + 1)))
    results: list[_T | None] = [None] * pieces
    left = iter(range(pieces))

    def take() -> None:
        for piece in left:
            results[piece] = run(ranges[piece])

    others = [_pool().submit(take) for _ in range(min(pieces, torch.get_num_threads()) - 1)]
    take()
    for other in others:
        if not other.cancel():
            other.result()
    return cast(list[_T], results)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1)), thread_name_prefix="adtn")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
