"""The time of a call, and the yardstick: the time of a copy."""

import gc
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

_LEAST_COPIED = 2**22
_Result = TypeVar("_Result")


def timed(call: Callable[[], _Result], device: str) -> tuple[float, _Result]:
    """The seconds of one call, and its result."""
    gc.collect()  # so that no call pays for the garbage of the one before
    _synchronise(device)
    started = time.perf_counter()
    result = call()
    _synchronise(device)
    return time.perf_counter() - started, result


class Copy:
    """`y.copy_(x)` of a float32 tensor: the yardstick.

    Args:
        entries: Of the tensor.
        device: Where it lies.
    """

    def __init__(self, entries: int, device: str) -> None:
        self.x: Tensor = torch.ones(entries, device=device)
        self.y = torch.zeros_like(self.x)
        self.device = device
        # A copy of a small tensor is too short for the clock.
        self.repeats = max(1, _LEAST_COPIED // entries)
        self()  # brings in the pages of both

    def __call__(self) -> None:
        """Copy, several times if the tensor is small."""
        for _ in range(self.repeats):
            self.y.copy_(self.x)

    def seconds(self) -> float:
        """The time of one copy."""
        return timed(self, self.device)[0] / self.repeats


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
