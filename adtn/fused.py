"""The passes of a contraction in plain PyTorch: on any device, in any floating-point dtype, differentiable.

The gates of a window are fused into one small matrix first, and a pass is one batched matrix product. To need no second
tensor of the size of the first, a pass over a large tensor goes through it in slices and writes in place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from adtn.passes import GateStep, Pass

MAX_WIDTH = 32
"""Widest window: 5 binary sites. Wider ones cost arithmetic, narrower ones passes."""

SLICE_ENTRIES = 2**22
"""Entries of a slice: enough to keep a device busy, few enough for its cache."""

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
}
"""The activations between TN layers."""


class FusedPasses:
    """Runs passes on flat tensors.

    Args:
        passes: What to run.
        gates: (items, numbers); each item is a tensor network of its own.
        activation: Between TN layers.
        storage: Dtype of the tensors between passes; products are accumulated in float32 at least.
    """

    def __init__(self, passes: tuple[Pass, ...], gates: Tensor, activation: str, storage: torch.dtype) -> None:
        self.passes = passes
        self._function = FUNCTIONS[activation]
        self._storage = storage
        self._gates = gates
        self._matrices = fuse(gates, passes)
        self._gradients = [torch.zeros_like(matrix) for matrix in self._matrices]

    def apply(self, i: int, x: Tensor) -> Tensor:
        """Pass i of x (items * entries,), out of place, as autograd can differentiate it any number of times."""
        step, matrix = self.passes[i], self._matrices[i]
        return _product(matrix.to(self._storage), self._activated(step, _view(x, step, step.before))).reshape(-1)

    def forward(self, i: int, x: Tensor, y: Tensor) -> None:
        """Pass i: read x, write y, which may be x if it has as many entries."""
        step = self.passes[i]
        matrix = self._matrices[i].to(self._storage)
        source, target = _view(x, step, step.before), _view(y, step, step.after)
        for item, left, right in _slices(source.shape, step.after):
            part = self._activated(step, source[item, left, :, right])
            target[item, left, :, right] = _product(matrix[item], part)

    def backward(self, i: int, x: Tensor, grad: Tensor, grad_x: Tensor) -> None:
        """Differentiate pass i: the gradient of what it wrote becomes that of x, and the gates' is added up."""
        step = self.passes[i]
        transposed = self._matrices[i].mT.to(self._storage)
        source, incoming = _view(x, step, step.before), _view(grad, step, step.after)
        outgoing = _view(grad_x, step, step.before)
        for item, left, right in _slices(source.shape, step.after):
            with torch.enable_grad():
                leaf = source[item, left, :, right].detach().requires_grad_()
                part = self._activated(step, leaf)
            above = incoming[item, left, :, right]
            self._gradients[i][item] += _outer(above.to(self._gates.dtype), part.detach().to(self._gates.dtype))
            below = _product(transposed[item], above)
            outgoing[item, left, :, right] = torch.autograd.grad(part, leaf, below)[0] if step.activate else below

    def gradient(self) -> Tensor:
        """Of the gates (items, numbers), after `backward` of every pass."""
        with torch.enable_grad():
            gates = self._gates.detach().requires_grad_()
            return torch.autograd.grad(fuse(gates, self.passes), gates, self._gradients)[0]

    def empty(self, entries: int) -> Tensor:
        """Room for a tensor."""
        return torch.empty(entries, dtype=self._storage, device=self._gates.device)

    def _activated(self, step: Pass, x: Tensor) -> Tensor:
        return self._function(x) if step.activate else x


def _view(x: Tensor, step: Pass, rows: int) -> Tensor:
    return x.view(-1, step.left, rows, step.right)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """(items, out, in) times (items, left, in, right)."""
    if x.shape[-1] == 1:  # one tall product an item
        return (x.squeeze(-1) @ matrix.mT).unsqueeze(-1)
    return matrix.unsqueeze(1) @ x


def _outer(grad: Tensor, x: Tensor) -> Tensor:
    """(items, left, out, right) and (items, left, in, right), summed over left and right: (items, out, in)."""
    if x.shape[-1] == 1:
        return grad.squeeze(-1).mT @ x.squeeze(-1)
    rows = (t.transpose(1, 2).flatten(2) for t in (grad, x))  # (items, out or in, left * right)
    return next(rows) @ next(rows).mT


def _slices(shape: torch.Size, after: int) -> Iterator[tuple[slice, slice, slice]]:
    """Slices of items, left and right that cover (items, left, before, right), each of at most SLICE_ENTRIES."""
    items, left, before, right = shape
    rows = max(before, after)
    if items * left * rows * right <= SLICE_ENTRIES:
        yield slice(None), slice(None), slice(None)
        return
    wide = min(right, max(1, SLICE_ENTRIES // rows))
    high = max(1, SLICE_ENTRIES // (rows * wide))
    for item in range(items):
        for i in range(0, left, high):
            for j in range(0, right, wide):
                yield slice(item, item + 1), slice(i, i + high), slice(j, j + wide)


@dataclass(frozen=True)
class _Pattern:
    """What a fused matrix depends on; windows of one pattern are fused together, as a batch.

    Args:
        before: Columns of the fused matrix.
        gates: (out, in, left, right) of each gate.
    """

    before: int
    gates: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class _Batch:
    """Windows of one pattern.

    Args:
        pattern: Theirs.
        windows: Their indices among the passes.
        start: Where their numbers begin in the reordered vector: gate by gate of the pattern, then window by window.
    """

    pattern: _Pattern
    windows: tuple[int, ...]
    start: int


def fuse(gates: Tensor, passes: tuple[Pass, ...]) -> list[Tensor]:
    """The fused matrix (items, out, in) of every pass.

    Args:
        gates: (items, numbers).
        passes: Theirs.
    """
    batches, _ = _fusion_of(passes)
    ordered = gates[:, _order_on(passes, gates.device)]
    matrices: dict[int, Tensor] = {}
    for batch in batches:
        fused = _fuse_batch(ordered[:, batch.start :], batch.pattern, len(batch.windows))
        matrices.update(zip(batch.windows, fused.unbind(1), strict=True))
    return [matrices[i] for i in range(len(matrices))]


def _fuse_batch(ordered: Tensor, pattern: _Pattern, count: int) -> Tensor:
    """The fused matrices (items, count, out, in) of `count` windows whose gates begin `ordered` (items, numbers)."""
    result = torch.eye(pattern.before, dtype=ordered.dtype, device=ordered.device)
    result = result.expand(len(ordered), count, pattern.before, pattern.before)
    start = 0
    for out, into, left, _ in pattern.gates:
        numbers = count * out * into
        gate = ordered[:, start : start + numbers].reshape(-1, count, 1, out, into)
        start += numbers
        result = gate @ result.reshape(-1, count, left, into, result.numel() // (len(ordered) * count * left * into))
    return result.reshape(len(ordered), count, -1, pattern.before)


@lru_cache(maxsize=256)
def _fusion_of(passes: tuple[Pass, ...]) -> tuple[tuple[_Batch, ...], tuple[int, ...]]:
    """The batches, and the order of the numbers that makes the gates of a batch neighbours."""
    by_pattern: dict[_Pattern, list[int]] = {}
    for i, step in enumerate(passes):
        by_pattern.setdefault(_pattern_of(step), []).append(i)
    batches: list[_Batch] = []
    order: list[int] = []
    for pattern, members in by_pattern.items():
        batches.append(_Batch(pattern, tuple(members), len(order)))
        for slot in range(len(pattern.gates)):
            for member in members:
                order.extend(_numbers_of(passes[member].gates[slot]))
    return tuple(batches), tuple(order)


def _pattern_of(step: Pass) -> _Pattern:
    return _Pattern(step.before, tuple((gate.out, gate.into, gate.left, gate.right) for gate in step.gates))


def _numbers_of(gate: GateStep) -> Sequence[int]:
    return range(gate.start, gate.start + gate.out * gate.into)


@lru_cache(maxsize=256)
def _order_on(passes: tuple[Pass, ...], device: torch.device) -> Tensor:
    """The order of `_fusion_of` as an index on a device."""
    return torch.tensor(_fusion_of(passes)[1], device=device)
