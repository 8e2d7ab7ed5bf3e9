"""The ladder of a weight: the structures that a planner chooses from, from few numbers to many.

The one place that says which structures are worth trying for which shape. No torch here.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from adtn.arrangements import brick_wall, fat_blocks
from adtn.growth import StructureChoice, larger, smallest
from adtn.sites import interleaved
from adtn.structure import AnyStructure, Structure, Sum

STEP = 1.15
"""Two rungs differ by at least this factor: closer ones are not worth telling apart."""
SITE_DIMENSIONS = (4, 8, 2, 16)
"""Up to which dimension prime factors of an axis share a site; the best first."""
BLOCK_SITES = 3
"""Of the fat blocks; with rows and columns in turn, each has some of both."""
EXACT_DEPTHS = (1, 2, 3)
MAX_TERMS = 5
MAX_GATE_ROWS = 256
"""Wider gates take a learning rate so small that they hardly train."""


def ladder(shape: Sequence[int]) -> list[AnyStructure]:
    """Structures for a weight, each with more numbers than the one before, and all with fewer than the weight.

    Fat blocks, joined by thin gates, on sites that multiply to the weight's own shape come first: nothing is padded,
    and every gate mixes rows with columns. After fine-tuning they keep the most accuracy a number, and for more numbers
    than one such network has, sums of them do. Brick-walls on the same sites and binary ones fill the gaps.

    Args:
        shape: Of the weight.

    Returns:
        The rungs; none if no structure is smaller than the weight.

    Example:
        >>> [structure.parameters for structure in ladder((8, 8))][0]
        32
    """
    return list(_rungs(tuple(shape)))


@lru_cache(maxsize=1024)  # a search plans again and again for the same shapes
def _rungs(shape: tuple[int, ...]) -> tuple[AnyStructure, ...]:
    rungs: list[AnyStructure] = []
    for structure in _by_preference(shape):
        size = structure.parameters
        if size < math.prod(shape) and not any(_close(size, rung.parameters) for rung in rungs):
            rungs.append(structure)
    return tuple(sorted(rungs, key=lambda rung: rung.parameters))


def _by_preference(shape: tuple[int, ...]) -> Iterator[AnyStructure]:
    """Every structure that may be a rung; of two of nearly the same size the first one is."""
    yield from _exact(shape)
    wish = StructureChoice()
    choice: StructureChoice | None = smallest(wish)
    while choice is not None:
        yield choice.structure(shape)
        choice = larger(choice, wish)


def _exact(shape: tuple[int, ...]) -> Iterator[AnyStructure]:
    """Networks on interleaved sites of the weight's own shape, and sums of them."""
    every = [interleaved(shape, largest) for largest in SITE_DIMENSIONS]
    blocks = [wall for sites in every if _trains(wall := fat_blocks(sites, BLOCK_SITES, activation="none"))]
    yield from blocks
    for terms in range(2, MAX_TERMS + 1):
        yield from (Sum((wall,) * terms) for wall in blocks)
    for sites in every:
        yield from (wall for depth in EXACT_DEPTHS if _trains(wall := brick_wall(sites, depth)))


def _trains(structure: Structure) -> bool:
    return max(gate.out for gate in structure.gates) <= MAX_GATE_ROWS


def _close(size: int, other: int) -> bool:
    return max(size, other) < STEP * min(size, other)
