"""Run the passes of a contraction, forwards and backwards, in little memory.

Forwards the tensor changes in place. Backwards every pass needs what it read: small tensors are kept for that, a large
one is computed again from the last that was kept.
"""

from typing import Protocol

from torch import Tensor

from adtn.passes import Pass

KEPT_ENTRIES = 2**20
"""Entries that may be kept of the tensors between passes, or an eighth of the result where that is more; what the last
pass reads is kept besides. So small networks compute nothing twice, and large ones need four tensors of the size of the
result at any depth."""


class Runner(Protocol):
    """Runs single passes on flat tensors (items * entries,): `adtn.native` and `adtn.fused` have one."""

    passes: tuple[Pass, ...]

    def forward(self, i: int, x: Tensor, y: Tensor) -> None:
        """Pass i: read x, write y, which may be x if it has as many entries."""

    def backward(self, i: int, x: Tensor, grad: Tensor, grad_x: Tensor) -> None:
        """Differentiate pass i: the gradient of what it wrote becomes that of x, and the gates' is added up."""

    def gradient(self) -> Tensor:
        """Of the gates, after `backward` of every pass."""

    def empty(self, entries: int) -> Tensor:
        """Room for a tensor."""


def run(runner: Runner, state: Tensor, items: int, keep: bool, keep_last: bool) -> tuple[Tensor, dict[int, Tensor]]:
    """Run all passes.

    Args:
        runner: Of `items` tensor networks.
        state: What the first pass reads (items * entries,).
        items: How many tensor networks.
        keep: Whether the gradient will be asked for.
        keep_last: Whether what the last pass reads is kept then, however large. It is the first that is needed, and
            makes room for all others afterwards: the peak is the same, but it takes memory until then.

    Returns:
        What the last pass wrote; and what some of the passes read, the first always among them, by their numbers.
    """
    kept = {0: state}
    numbers = _kept(runner.passes, items) if keep else set()
    if keep and keep_last:
        numbers.add(len(runner.passes) - 1)
    x = state
    for i in range(len(runner.passes)):
        if i in numbers:
            kept[i] = x
        x = _forward(runner, i, x, None if i in kept else x, items)
    return x, kept


def run_backward(runner: Runner, kept: dict[int, Tensor], grad: Tensor, ours: bool, items: int) -> Tensor:
    """Run all passes backwards.

    Args:
        runner: Gathers the gradient of the gates.
        kept: From `run`; what was read by other passes than the first is taken out, as it is overwritten.
        grad: Of what the last pass wrote.
        ours: Whether `grad` may be overwritten.
        items: How many tensor networks.

    Returns:
        The gradient of what the first pass read.
    """
    room: Tensor | None = None
    for i in reversed(range(len(runner.passes))):
        first = max(k for k in kept if k <= i)
        x = kept[first]
        for k in range(first, i):
            x = room = _forward(runner, k, x, room, items)
        entries = items * runner.passes[i].entries_before
        grad_x = grad if ours and grad.numel() == entries else runner.empty(entries)
        runner.backward(i, x, grad, grad_x)
        if i > 0 and i in kept:
            room = kept.pop(i)
        grad, ours = grad_x, True
    return grad


def _kept(passes: tuple[Pass, ...], items: int) -> set[int]:
    """The passes whose input is kept."""
    budget = max(KEPT_ENTRIES, items * passes[-1].entries_after // 8)
    numbers = set()
    for i, step in enumerate(passes):
        entries = items * step.entries_before
        if entries <= budget:
            budget -= entries
            numbers.add(i)
    return numbers


def _forward(runner: Runner, i: int, x: Tensor, room: Tensor | None, items: int) -> Tensor:
    """Run pass i on x, into `room` if that has the right size; `room` may be x."""
    entries = items * runner.passes[i].entries_after
    y = room if room is not None and room.numel() == entries else runner.empty(entries)
    runner.forward(i, x, y)
    return y
