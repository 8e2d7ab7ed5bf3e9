"""How a tensor network is contracted: its gates grouped into passes over the tensor, in plain Python.

A gate alone touches few sites, so applying it is bound by memory. A *pass* takes the gates of a *window* (neighbouring
sites whose dimensions multiply to at most a given width) at once: the tensor is cut into blocks that hold all sites of
the window, and every block is read once, taken through all these gates, and written once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from adtn.structure import GateShape, Span, gates_of


@dataclass(frozen=True)
class GateStep:
    """A gate inside a block: (left, into, right) -> (left, out, right).

    Args:
        start: Where its numbers begin among those of all gates.
        out: Rows of its matrix.
        into: Columns of its matrix.
        left: Entries of the block's sites before the gate's, when its turn comes.
        right: Entries of the block's sites after the gate's.
    """

    start: int
    out: int
    into: int
    left: int
    right: int


@dataclass(frozen=True)
class Pass:
    """A sweep over the tensor that applies the gates of one window: (left, before, right) -> (left, after, right).

    Args:
        left: Entries of the sites before the window.
        before: Entries of the window's sites before its gates (a site that no gate has touched counts 1).
        after: The same after them.
        right: Entries of the sites after the window.
        activate: Whether the activation is applied first: this pass is the first of a TN layer but the first.
        gates: In the order in which they are applied.
    """

    left: int
    before: int
    after: int
    right: int
    activate: bool
    gates: tuple[GateStep, ...]

    @property
    def entries_before(self) -> int:
        """Entries of the tensor that the pass reads."""
        return self.left * self.before * self.right

    @property
    def entries_after(self) -> int:
        """Entries of the tensor that the pass writes."""
        return self.left * self.after * self.right


def balanced_passes(
    dims: tuple[int, ...], tn_layers: tuple[tuple[Span, ...], ...], width: int, touched: bool = False
) -> tuple[Pass, ...]:
    """As few passes as `passes_of` makes, but with windows as narrow as that number allows.

    Windows of equal width fit a smaller cache than a wide one beside a narrow one, and leave no pass with a handful of
    entries on its right, for which no memory access is contiguous.

    Args:
        dims: Dimension of each site.
        tn_layers: The spans of each TN layer's gates.
        width: Widest window.
        touched: See `passes_of`.
    """
    passes = passes_of(dims, tn_layers, width, touched)
    while width > 2:
        width //= 2
        narrower = passes_of(dims, tn_layers, width, touched)
        if len(narrower) > len(passes):
            break
        passes = narrower
    return passes


@lru_cache(maxsize=256)
def passes_of(
    dims: tuple[int, ...], tn_layers: tuple[tuple[Span, ...], ...], width: int, touched: bool = False
) -> tuple[Pass, ...]:
    """The passes that apply `tn_layers`; between two of them the sites are in their natural order.

    Args:
        dims: Dimension of each site.
        tn_layers: The spans of each TN layer's gates.
        width: Of a window, as the product of its dimensions. A gate that is wider gets a pass of its own.
        touched: Whether the tensor at the start has all its sites; otherwise it is the number 1, and a site appears
            with the first gate that touches it.
    """
    gates = list(gates_of(dims, tn_layers, touched))
    starts = list(accumulate((gate.parameters for gate in gates), initial=0))
    current = list(dims) if touched else [1] * len(dims)
    passes: list[Pass] = []
    first = 0  # gate of the TN layer
    for m, layer in enumerate(tn_layers):
        for i, group in enumerate(group_gates(layer, dims, width)):
            own = [(gates[first + k], starts[first + k]) for k in group]
            passes.append(_pass(own, dims, current, activate=m > 0 and i == 0))
        first += len(layer)
    return tuple(passes)


def _pass(gates: Sequence[tuple[GateShape, int]], dims: Sequence[int], current: list[int], activate: bool) -> Pass:
    """The pass of one window; `current`, each site's dimension so far, is brought up to date.

    Args:
        gates: In order, each with where its numbers begin.
        dims: Dimension of each site.
        current: The same so far.
        activate: See `Pass`.
    """
    first = min(gate.span[0] for gate, _ in gates)
    last = max(gate.span[1] for gate, _ in gates)
    before = math.prod(current[first:last])
    steps = []
    for gate, numbers in gates:
        start, stop = gate.span
        steps.append(
            GateStep(numbers, gate.out, gate.into, math.prod(current[first:start]), math.prod(current[stop:last]))
        )
        current[start:stop] = dims[start:stop]
    after = math.prod(current[first:last])
    return Pass(math.prod(current[:first]), before, after, math.prod(current[last:]), activate, tuple(steps))


def group_gates(spans: Sequence[Span], dims: Sequence[int], width: int) -> list[tuple[int, ...]]:
    """Group the gates of a TN layer by windows, in an order that applies overlapping gates as listed.

    Sweeps from left to right, over and over until no gate is left (a brick-wall of 2-site gates takes one sweep).

    Args:
        spans: Of the gates, in order.
        dims: Dimension of each site.
        width: Of a window, as the product of its dimensions.

    Returns:
        Indices of the gates of each window, in order.
    """
    left = list(range(len(spans)))
    groups: list[tuple[int, ...]] = []
    position = 0
    while left:
        # In cyclic order from the sweep's position. The gate that is listed first is never blocked: one start succeeds.
        starts = sorted({spans[i][0] for i in left}, key=lambda start: (start < position, start))
        chosen = next(found for start in starts if (found := _gates_from(start, spans, left, dims, width)))
        left = [i for i in left if i not in chosen]
        groups.append(chosen)
        position = min(spans[i][0] for i in chosen) + 1
    return groups


def _gates_from(
    start: int, spans: Sequence[Span], left: Sequence[int], dims: Sequence[int], width: int
) -> tuple[int, ...]:
    """The gates inside the window that begins at `start`, but for those that must wait for a gate outside of it."""
    stop = start
    while stop < len(dims) and math.prod(dims[start : stop + 1]) <= width:
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
