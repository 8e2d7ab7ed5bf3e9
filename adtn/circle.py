"""A contraction as products of two matrices. No torch: what runs the products comes after.

The sites lie in a circle. A gate takes its sites from the front and leaves them at the back, so that the next one often
finds its own in front. Where it does not, the circle is turned: a matrix is transposed.

Each product writes the whole tensor anew. So on a large tensor gates that are neighbours act together: their product is
made first, by steps of the same kind.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from adtn.structure import Span, Structure

WINDOW = 64
"""Most rows of a product of gates: 6 binary sites. Wider ones cost arithmetic, narrower ones memory."""

LARGE = 2**14
"""Entries of a tensor on which gates act together. A product of gates has fewer: its own are not joined again."""


@dataclass(frozen=True)
class Step:
    """What is done to the tensor for one gate or window; a tensor is held flat, the site in front is the slowest.

    First the tensor, as a matrix of `turn` rows, is transposed (1: it is not). Then it is a matrix of `columns` rows,
    the entries of its own sites; its transpose is multiplied from the right by the transposed matrix of the step.

    Attributes:
        activate: Whether the activation comes before: the step is the first of a TN layer, but not of the first one.
        turn: Entries of the sites that are taken from the front to the back, or 1.
        rows: Of the step's matrix.
        columns: Of the step's matrix.
        window: What makes the matrix out of several gates; None: it is that of the next gate.
    """

    activate: bool
    turn: int
    rows: int
    columns: int
    window: "Circle | None"

    @property
    def parameters(self) -> int:
        """Numbers of its gates."""
        if self.window is None:
            return self.rows * self.columns
        return sum(step.parameters for step in self.window.steps)


@dataclass(frozen=True)
class Circle:
    """A whole contraction.

    Attributes:
        start: Rows of the identity matrix with which it begins: 1 for a network; the columns of a window's matrix.
        steps: In order; they take the gates in order.
        turn: The last one, after which the sites stand in their natural order.
    """

    start: int
    steps: tuple[Step, ...]
    turn: int


def circle_of(structure: Structure) -> Circle:
    """The steps that contract one network; `structure.order` remains to be made afterwards.

    Args:
        structure: Any but a sum.
    """
    return _circle(1, [1] * structure.sites, structure.dims, structure.tn_layers)


def _circle(start: int, current: list[int], dims: Sequence[int], tn_layers: Sequence[Sequence[Span]]) -> Circle:
    """From sites of the dimensions `current`, which change, to those of `dims`."""
    found: list[Step] = []
    front = 0
    for number, layer in enumerate(tn_layers):
        activate = number > 0
        for group in _groups(layer, current, dims):
            first, stop = _union(group)
            columns = prod(current[first:stop])
            window = _window(group, current, dims) if len(group) > 1 else None
            turn = _turn(current, front, first)
            found.append(Step(activate, turn, prod(dims[first:stop]), columns, window))
            current[first:stop] = dims[first:stop]
            front, activate = stop, False
    return Circle(start, tuple(found), _turn(current, front, 0))


def _groups(layer: Sequence[Span], current: Sequence[int], dims: Sequence[int]) -> Iterator[list[Span]]:
    """The gates of a TN layer, those together that act together; `current` is read anew for each group."""
    group: list[Span] = []
    for span in layer:
        if group and not _join(group, span, current, dims):
            yield group
            group = []
        group.append(span)
    yield group


def _join(group: list[Span], span: Span, current: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether a gate acts together with those before it: they are neighbours, few, and the tensor is large."""
    first, stop = _union(group)
    together = _union([*group, span])
    is_near = span[0] <= stop and first <= span[1]
    return is_near and prod(current) >= LARGE and prod(dims[slice(*together)]) <= WINDOW


def _window(group: Sequence[Span], current: Sequence[int], dims: Sequence[int]) -> Circle:
    """The product of gates: they act on the identity, whose columns are one more site."""
    first, stop = _union(group)
    columns = prod(current[first:stop])
    inside = [(a - first, b - first) for a, b in group]
    return _circle(columns, [*current[first:stop], columns], [*dims[first:stop], columns], [inside])


def _union(spans: Sequence[Span]) -> Span:
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _turn(current: Sequence[int], front: int, start: int) -> int:
    """Entries of the sites before `start` in a circle that begins at `front`; 1 if turning changes nothing."""
    ahead = prod(current[front:start]) if start >= front else prod(current[front:]) * prod(current[:start])
    return 1 if ahead == prod(current) else ahead
