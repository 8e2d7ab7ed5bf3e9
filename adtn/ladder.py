"""The ladder of a weight: the structures that a planner chooses from, from few numbers to many.

The one place that says which structures are worth trying for which shape. No torch here.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from typing import NamedTuple

from adtn.arrangements import brick_wall, tt_matrix
from adtn.cores import Cores, core_splits, divisors, enclosing_matrix, is_smooth
from adtn.growth import DEFAULT_GATE_SITES, MAX_DEPTH, MAX_GATE_SITES, SMALLEST_DEPTH, StructureChoice
from adtn.sites import interleaved
from adtn.structure import AnyStructure, Structure, Sum

STEP = 1.15
"""Two rungs differ by at least this factor: closer ones are not worth telling apart."""
CORES = (3, 4, 5, 6)
"""Of a TT-matrix; the best number first. More cores hold large weights in fewer numbers."""
BONDS = (2, 3, 4, 1, 5, 6, 8, 12, 16)
"""What the bonds of a TT-matrix are near to; the best first."""
LARGE_BONDS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""And with the best number of cores these: so that a large weight, too, can be made only a few times smaller."""
MAX_TERMS = 5
MAX_PRODUCTS = 2
LOW_RANK_RATIO = 5
"""Where a matrix becomes at most so many times smaller, low rank comes first: fitted, it keeps more, and it is decoded
in half the time. (LeNet-5 on MNIST, the sizes of docs/accuracy.md: 98.6 % against 97.6 % after the fit at a ratio of 5,
as much after three epochs; at 10 it keeps less.)"""
SITE_DIMENSIONS = (4, 8, 2, 16)
"""Up to which dimension prime factors of an axis share a site of a brick-wall; the best first."""
EXACT_DEPTHS = (1, 2, 3)
MAX_GATE_ROWS = 256
"""In a network of several TN layers wider gates take a learning rate so small that they hardly train."""


class _Draft(NamedTuple):
    """A structure that is made only if it becomes a rung, as few do: making one takes far longer than counting."""

    parameters: int
    make: Callable[[], AnyStructure]


def ladder(shape: Sequence[int]) -> list[AnyStructure]:
    """Structures for a weight, each with more numbers than the one before, and all with fewer than the weight.

    TT-matrices with few cores come first, and for more numbers sums of them, in which each splits the rows and columns
    in another way: nothing is padded, and every core mixes rows with columns (the weights of a group, which have no
    rows in common, are cut into some). After fine-tuning they keep the most accuracy a number. Close to the dense
    weight's own size matrices of low rank take their place. Brick-walls, on sites of the weight's own shape and on
    binary ones, fill the gaps.

    Args:
        shape: Of the weight.

    Returns:
        The rungs; none if no structure is smaller than the weight.

    Example:
        >>> [structure.parameters for structure in ladder((8, 8))][0]
        12
    """
    return list(_rungs(tuple(shape)))


@lru_cache(maxsize=1024)  # a search plans again and again for the same shapes
def _rungs(shape: tuple[int, ...]) -> tuple[AnyStructure, ...]:
    sizes: list[int] = []  # ascending, as the rungs are
    rungs: list[AnyStructure] = []
    for size, make in _by_preference(shape):
        place = bisect_right(sizes, size)
        if size < math.prod(shape) and not any(_close(size, other) for other in sizes[max(0, place - 1) : place + 1]):
            sizes.insert(place, size)
            rungs.insert(place, make())
    return tuple(rungs)


def _by_preference(shape: tuple[int, ...]) -> Iterator[_Draft]:
    """Every structure that may be a rung; of two of nearly the same size the first one is."""
    yield from _exact(shape)
    deeper = [StructureChoice(depth, DEFAULT_GATE_SITES) for depth in range(SMALLEST_DEPTH, MAX_DEPTH)]
    wider = [StructureChoice(MAX_DEPTH, sites) for sites in range(DEFAULT_GATE_SITES, MAX_GATE_SITES + 1)]
    yield from (_made(choice.structure(shape)) for choice in (*deeper, *wider))


def _made(structure: Structure) -> _Draft:
    return _Draft(structure.parameters, lambda: structure)


def _exact(shape: tuple[int, ...]) -> Iterator[_Draft]:
    """Networks on sites of the weight's own shape, and TT-matrices on others where it has large prime factors."""
    rows, columns = shape[0], math.prod(shape[1:])
    if len(shape) > 1:
        yield from _low_rank(rows, columns)
        yield from _tt_matrices(rows, columns)
    if len(shape) == 1 or not (is_smooth(rows) and is_smooth(columns)):
        yield from _tt_matrices(*enclosing_matrix(rows * columns))
    for sites in (interleaved(shape, largest) for largest in SITE_DIMENSIONS):
        yield from (_made(wall) for depth in EXACT_DEPTHS if _trains(wall := brick_wall(sites, depth)))


def _low_rank(rows: int, columns: int) -> Iterator[_Draft]:
    """A matrix as the product of two, in the ranks by which it becomes a few times smaller."""
    smallest = max(1, math.ceil(rows * columns / (rows + columns) / LOW_RANK_RATIO))
    rank = float(smallest)
    while rank < min(rows, columns):
        parts = _parts(rows, columns, int(rank))
        yield _Draft(sum(parts) * (rows + columns), partial(_products, rows, columns, parts))
        rank = max(rank + 1, rank * STEP)


def _products(rows: int, columns: int, parts: Sequence[int]) -> AnyStructure:
    return _sum([_product(rows, columns, part) for part in parts])


def _product(rows: int, columns: int, rank: int) -> Structure:
    """Two matrices: a TT-matrix of one core with all rows and one with all columns.

    The second core takes a bond that divides its rows or columns, so the rank decides which one comes second.
    """
    if columns % rank == 0:
        return tt_matrix((rows, 1), (1, columns), (rank,))
    return tt_matrix((1, rows), (columns, 1), (rank,))


def _parts(rows: int, columns: int, rank: int) -> list[int]:
    """A few ranks that a product can have, and that make up the rank or nearly so: a sum of products has the sum."""
    possible = sorted({*divisors(rows), *divisors(columns)})
    parts: list[int] = []
    while sum(parts) < rank and len(parts) < MAX_PRODUCTS:
        parts.append(possible[bisect_right(possible, rank - sum(parts)) - 1])
    return parts


def _tt_matrices(rows: int, columns: int) -> Iterator[_Draft]:
    """TT-matrices of the best splits, and sums of them."""
    for count in CORES:
        splits = core_splits(rows, columns, count, MAX_TERMS)
        for bond in (*BONDS, *LARGE_BONDS) if count == CORES[0] else BONDS:
            sizes = accumulate(split.parameters(bond) for split in splits)
            for terms, size in enumerate(sizes, 1):
                yield _Draft(size, partial(_networks, splits[:terms], bond))


def _networks(splits: Sequence[Cores], bond: int) -> AnyStructure:
    return _sum([split.with_bonds(bond) for split in splits])


def _sum(terms: Sequence[Structure]) -> AnyStructure:
    return Sum(tuple(terms)) if len(terms) > 1 else terms[0]


def _trains(structure: Structure) -> bool:
    return structure.depth == 1 or max(gate.out for gate in structure.gates) <= MAX_GATE_ROWS


def _close(size: int, other: int) -> bool:
    return max(size, other) < STEP * min(size, other)
