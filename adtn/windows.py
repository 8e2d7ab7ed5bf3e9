"""How a structure is contracted: its gates grouped into windows of neighbouring sites, in plain Python.

A gate alone touches few sites, so applying it is bound by memory. The gates inside a *window* (neighbouring sites whose
dimensions multiply to at most `MAX_WIDTH`) are first fused into one matrix, and that is applied in a single pass.

The tensor under construction is kept in a cyclic order of its sites. A `Window` step finds its sites in front, writes
those it is done with to the back and leaves those shared with the next window in front: so a sweep over a TN layer is a
row of plain matrix products, with no copy between them. A `Rotation` step, a transposing copy, is needed only where
the next gates are elsewhere, and to restore the natural order at the end.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from adtn.structure import GateShape, Span, Structure

MAX_WIDTH = 32
"""Widest window, as the product of its dimensions: 5 binary sites. Wider ones cost arithmetic, narrower ones passes."""


@dataclass(frozen=True)
class Pattern:
    """What the fused matrix of a window depends on; windows of one pattern are fused together, as a batch.

    Args:
        before: Dimension of each site of the window before its gates (1 where no gate has touched it yet).
        after: The same after them.
        gates: Span, relative to the window, of each gate in order.
        shapes: The (out, in) matrix of each gate.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    gates: tuple[Span, ...]
    shapes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """Apply a fused matrix to the sites in front.

    Args:
        gates: Indices of its gates in the structure's order.
        pattern: How they lie.
        into: Size of the window before.
        done: Size, after, of its sites that go to the back.
        keep: Size, after, of its sites that stay in front.
    """

    gates: tuple[int, ...]
    pattern: Pattern
    into: int
    done: int
    keep: int


@dataclass(frozen=True)
class Rotation:
    """Move the sites in front, of this size together, to the back."""

    front: int


Step = Window | Rotation


@lru_cache(maxsize=256)
def steps_of(structure: Structure) -> tuple[tuple[Step, ...], ...]:
    """The steps that contract `structure`, one tuple a TN layer; each ends in the natural order of the sites."""
    current = [1] * structure.sites
    layers, first = [], 0
    for layer in structure.tn_layers:
        gates = structure.gates[first : first + len(layer)]
        layers.append(tuple(_sweep(gates, first, structure.dims, current)))
        first += len(layer)
    return tuple(layers)


@dataclass(frozen=True)
class Group:
    """Gates of one TN layer that are fused.

    Args:
        gates: Their indices in the TN layer, in order.
        start: First site of the window.
        stop: One past its last site.
    """

    gates: tuple[int, ...]
    start: int
    stop: int


def _sweep(gates: Sequence[GateShape], first: int, dims: Sequence[int], current: list[int]) -> Iterator[Step]:
    """The steps of one TN layer; `current` (each site's dimension so far) is brought up to date."""
    groups = group_gates([gate.span for gate in gates], dims)
    front = 0  # the site that is first in the tensor's cyclic order
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        yield from _rotate(current, front, group.start)
        before = tuple(current[group.start : group.stop])
        for start, stop in (gates[i].span for i in group.gates):
            current[start:stop] = dims[start:stop]
        after = tuple(current[group.start : group.stop])
        overlaps = following is not None and group.start <= following.start < group.stop
        front = following.start if following is not None and overlaps else group.stop
        split = front - group.start
        pattern = Pattern(
            before,
            after,
            tuple((gates[i].span[0] - group.start, gates[i].span[1] - group.start) for i in group.gates),
            tuple((gates[i].out, gates[i].into) for i in group.gates),
        )
        yield Window(
            tuple(first + i for i in group.gates),
            pattern,
            math.prod(before),
            math.prod(after[:split]),
            math.prod(after[split:]),
        )
    yield from _rotate(current, front, 0)


def _rotate(current: Sequence[int], front: int, wanted: int) -> Iterator[Rotation]:
    """Bring site `wanted` to the front of a tensor that starts with site `front`; nothing if that moves no data."""
    sites = len(current)
    moved = [(front + k) % sites for k in range((wanted - front) % sites)]
    size = math.prod(current[site] for site in moved)
    if 1 < size < math.prod(current):
        yield Rotation(size)


def group_gates(spans: Sequence[Span], dims: Sequence[int]) -> list[Group]:
    """Group the gates of a TN layer into windows, in an order that applies overlapping gates as listed.

    Sweeps from left to right, over and over until no gate is left (a brick-wall of 2-site gates takes one sweep).

    Args:
        spans: Of the gates, in order.
        dims: Dimension of each site.
    """
    left = list(range(len(spans)))
    groups: list[Group] = []
    position = 0
    while left:
        # In cyclic order from the sweep's position. The gate that is listed first is never blocked: one start succeeds.
        starts = sorted({spans[i][0] for i in left}, key=lambda start: (start < position, start))
        chosen = next(found for start in starts if (found := _gates_from(start, spans, left, dims)))
        left = [i for i in left if i not in chosen]
        groups.append(Group(chosen, min(spans[i][0] for i in chosen), max(spans[i][1] for i in chosen)))
        position = groups[-1].start + 1
    return groups


def _gates_from(start: int, spans: Sequence[Span], left: Sequence[int], dims: Sequence[int]) -> tuple[int, ...]:
    """The gates inside the window that begins at `start`, but for those that must wait for a gate outside of it."""
    stop = start
    while stop < len(dims) and math.prod(dims[start : stop + 1]) <= MAX_WIDTH:
        stop += 1
    chosen: list[int] = []
    waiting: list[Span] = []
    alone: int | None = None  # a gate at `start` that is wider than the window
    for i in left:
        first, last = spans[i]
        blocked = any(first < other_last and other_first < last for other_first, other_last in waiting)
        if start <= first and last <= stop and not blocked:
            chosen.append(i)
        else:
            if first == start and last > stop and not blocked and alone is None:
                alone = i
            waiting.append(spans[i])
    if not chosen and alone is not None:
        return (alone,)
    return tuple(chosen)
