"""A contraction in which every gate is one product of two matrices. No torch: what runs the products comes after.

The sites lie in a circle. A gate takes its sites from the front and leaves them at the back, so that the next one often
finds its own in front. Where it does not, the circle is turned: a matrix is transposed.
"""

from dataclasses import dataclass
from math import prod

from adtn.structure import Structure


@dataclass(frozen=True)
class Step:
    """What is done to the tensor for one gate; a tensor is held flat, the site in front is the slowest.

    First the tensor, as a matrix of `turn` rows, is transposed (1: it is not). Then it is a matrix of `columns` rows,
    the entries of the gate's own sites; its transpose is multiplied from the right by the transposed gate.

    Attributes:
        activate: Whether the activation comes before: the gate is the first of a TN layer, but not of the first one.
        turn: Entries of the sites that are taken from the front to the back, or 1.
        rows: Of the gate's matrix.
        columns: Of the gate's matrix.
    """

    activate: bool
    turn: int
    rows: int
    columns: int


def steps(structure: Structure) -> tuple[tuple[Step, ...], int]:
    """The steps that contract one network, starting with the number 1; and the last turn.

    After the turn the sites stand in their natural order, from which `structure.order` remains to be made.

    Args:
        structure: Any but a sum.
    """
    found: list[Step] = []
    gates, front = iter(structure.gates), 0
    current = [1] * structure.sites  # dimension of each site so far
    for number, layer in enumerate(structure.tn_layers):
        for position, (start, stop) in enumerate(layer):
            gate = next(gates)
            found.append(Step(number > 0 and position == 0, _turn(current, front, start), gate.out, gate.into))
            current[start:stop] = structure.dims[start:stop]
            front = stop
    return tuple(found), _turn(current, front, 0)


def _turn(current: list[int], front: int, start: int) -> int:
    """Entries of the sites before `start` in a circle that begins at `front`; 1 if turning changes nothing."""
    ahead = prod(current[front:start]) if start >= front else prod(current[front:]) * prod(current[:start])
    return 1 if ahead == prod(current) else ahead
