"""Fuse the gates of each window into one small matrix, all windows of the same pattern as one batch."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from adtn.structure import Structure
from adtn.windows import Pattern, Window, steps_of


@dataclass(frozen=True)
class _Batch:
    """Windows of one pattern.

    Args:
        pattern: Theirs.
        windows: Their indices among all windows of the structure.
        start: Where their numbers begin in the reordered vector: gate by gate of the pattern, then window by window.
    """

    pattern: Pattern
    windows: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class _Fusion:
    """How to fuse a structure: the batches, and the order of the numbers that makes each batch of gates a view."""

    batches: tuple[_Batch, ...]
    order: tuple[int, ...] | None


def fuse(flat: Tensor, structure: Structure) -> list[Tensor]:
    """The fused matrix (out, in) of every window of `structure`, in the order of its steps.

    Args:
        flat: The numbers of all gates (structure.parameters,).
        structure: Theirs.
    """
    fusion = _fusion_of(structure)
    ordered = flat if fusion.order is None else flat[_order_on(structure, flat.device)]
    matrices: dict[int, Tensor] = {}
    for batch in fusion.batches:
        fused = _fuse_batch(ordered[batch.start :], batch.pattern, len(batch.windows))
        matrices.update(zip(batch.windows, fused.unbind(), strict=True))
    return [matrices[i] for i in range(len(matrices))]


def _fuse_batch(ordered: Tensor, pattern: Pattern, count: int) -> Tensor:
    """The fused matrices (count, out, in) of `count` windows whose gates begin `ordered`."""
    current = list(pattern.before)
    into = math.prod(current)
    result: Tensor | None = None
    start = 0
    for (first, last), (out, gate_in) in zip(pattern.gates, pattern.shapes, strict=True):
        gate = ordered[start : start + count * out * gate_in].view(count, 1, out, gate_in)
        start += count * out * gate_in
        left = math.prod(current[:first])
        if result is None:
            result = torch.eye(into, dtype=ordered.dtype, device=ordered.device).expand(count, into, into)
        result = gate @ result.reshape(count, left, gate_in, -1)  # (count, left, out, right * into)
        current[first:last] = pattern.after[first:last]
    assert result is not None
    return result.reshape(count, -1, into)


@lru_cache(maxsize=256)
def _fusion_of(structure: Structure) -> _Fusion:
    """Group the windows by pattern and lay their numbers out batch by batch."""
    windows = [step for steps in steps_of(structure) for step in steps if isinstance(step, Window)]
    by_pattern: dict[Pattern, list[int]] = {}
    for i, window in enumerate(windows):
        by_pattern.setdefault(window.pattern, []).append(i)
    starts = [0]
    for gate in structure.gates:
        starts.append(starts[-1] + gate.parameters)
    batches: list[_Batch] = []
    order: list[int] = []
    for pattern, members in by_pattern.items():
        batches.append(_Batch(pattern, tuple(members), len(order)))
        for slot in range(len(pattern.gates)):
            for member in members:
                gate_index = windows[member].gates[slot]
                order.extend(range(starts[gate_index], starts[gate_index + 1]))
    natural = order == list(range(structure.parameters))
    return _Fusion(tuple(batches), None if natural else tuple(order))


@lru_cache(maxsize=256)
def _order_on(structure: Structure, device: torch.device) -> Tensor:
    """The order of `_fusion_of` as an index on a device."""
    return torch.tensor(_fusion_of(structure).order, device=device)
