"""Large arrays whose memory is used again once they are gone.

The kernel hands out memory page by page, zeroed, at the first touch: for an array of 64 MiB that takes longer than a
pass over it. Training makes and drops the same few arrays at every step.
"""

import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_BYTES = 2**22
"""Smaller arrays are recycled by the allocator itself."""

KEPT_BYTES = 2**30
"""Most memory that waits for its next use."""

_lock = threading.Lock()
_free: list[NDArray[np.uint8]] = []  # the longest unused first


def recycled(entries: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised array (entries,)."""
    size = entries * dtype.itemsize
    if size < SMALLEST_BYTES:
        return np.empty(entries, dtype)
    memory = _take(size)
    if memory is None:
        memory = np.empty(size, np.uint8)
    array = memory.view(dtype)
    weakref.finalize(array, _give_back, memory).atexit = False
    return array


def release() -> None:
    """Give the memory that waits for its next use back to the system."""
    with _lock:
        _free.clear()


def _take(size: int) -> NDArray[np.uint8] | None:
    with _lock:
        for i, memory in enumerate(_free):
            if memory.size == size:
                return _free.pop(i)
    return None


def _give_back(memory: NDArray[np.uint8]) -> None:
    with _lock:
        _free.append(memory)
        while sum(waiting.size for waiting in _free) > KEPT_BYTES:
            _free.pop(0)
