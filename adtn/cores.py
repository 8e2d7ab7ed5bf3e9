"""The cores of a TT-matrix: into which factors the rows and columns of a matrix are split, and with which bonds.

No torch here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from itertools import product

from adtn.arrangements import tt_matrix
from adtn.structure import Structure

_SPLITS_OF_AN_AXIS = 64
"""Of each axis, those nearest to equal factors are combined with those of the other."""
_UNMIXED = 1.0
"""Flaw of each core that has only rows or only columns."""
_UNLIKE = 0.1
"""Weight of how far the rows and columns of a core are from the proportions of the whole matrix."""


@dataclass(frozen=True)
class Cores:
    """Row and column dimensions of the cores of a TT-matrix, without its bonds.

    Args:
        rows: Of each core; they multiply to the rows of the matrix.
        columns: Of each core.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each core for bonds of 1."""
        return tuple(row * column for row, column in zip(self.rows, self.columns, strict=True))

    def with_bonds(self, wanted: float) -> Structure:
        """The TT-matrix whose bonds are as near to a number as its cores allow.

        Args:
            wanted: The bond dimension, at least 1. A bond is no larger than what either side of it can make use of.
        """
        bonds: list[int] = []
        for k, (row, column) in enumerate(zip(self.rows[1:], self.columns[1:], strict=True), 1):
            highest = min(math.prod(self.sizes[:k]), math.prod(self.sizes[k:]))
            possible = [bond for bond in possible_bonds(row, column) if bond <= highest]
            bonds.append(min(possible, key=lambda bond: (abs(math.log(bond / wanted)), bond)))
        return tt_matrix(self.rows, self.columns, bonds)


def core_splits(rows: int, columns: int, count: int, most: int) -> list[Cores]:
    """Ways to split a matrix into cores: of about the same size, each with rows and columns; the best first.

    Args:
        rows: Of the matrix.
        columns: Of the matrix.
        count: Number of cores, at least 1.
        most: How many ways are returned at most. None is there if the matrix has too few factors.

    Example:
        >>> core_splits(16, 150, 3, 1)
        [Cores(rows=(2, 2, 4), columns=(5, 6, 5))]
    """
    return list(_core_splits(rows, columns, count)[:most])


@lru_cache(maxsize=256)  # a search plans again and again for the same shapes
def _core_splits(rows: int, columns: int, count: int) -> tuple[Cores, ...]:
    found = [
        Cores(row_split, column_split)
        for row_split, column_split in product(_nearly_equal(rows, count), _nearly_equal(columns, count))
        if all(row * column > 1 for row, column in zip(row_split, column_split, strict=True))
    ]
    return tuple(sorted(found, key=lambda cores: (_flaw(cores), cores.rows, cores.columns)))


def enclosing_matrix(entries: int) -> tuple[int, int]:
    """Rows and columns of a matrix that holds so many entries and has many splits into cores.

    Of all with prime factors up to 7 and at most four times as many columns as rows, the one with the least padding,
    and of those the one nearest to a square.

    Args:
        entries: At least 1.

    Example:
        >>> enclosing_matrix(58_080)
        (240, 243)
    """
    root = math.isqrt(entries - 1) + 1
    shapes = [(rows, _next_smooth(-(-entries // rows))) for rows in range((root + 1) // 2, root + 1) if is_smooth(rows)]
    return min(shapes, key=lambda shape: (math.prod(shape), -min(shape)))


def is_smooth(number: int) -> bool:
    """Whether no prime factor is larger than 7: such numbers have many splits.

    Args:
        number: At least 1.
    """
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


def factorisations(number: int, count: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as an ordered product of `count` factors.

    Args:
        number: At least 1.
        count: At least 1; a factor may be 1.

    Example:
        >>> list(factorisations(4, 2))
        [(1, 4), (2, 2), (4, 1)]
    """
    if count == 1:
        yield (number,)
        return
    for factor in divisors(number):
        for rest in factorisations(number // factor, count - 1):
            yield factor, *rest


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """All divisors of a number, at least 1, in ascending order."""
    small = [factor for factor in range(1, math.isqrt(number) + 1) if number % factor == 0]
    return tuple(sorted({*small, *(number // factor for factor in small)}))


def possible_bonds(rows: int, columns: int) -> list[int]:
    """The bonds that `adtn.tt_matrix` can hand on to a core with so many rows and columns, in ascending order."""
    return sorted({row * column for row in divisors(rows) for column in divisors(columns)})


def _next_smooth(number: int) -> int:
    while not is_smooth(number):
        number += 1
    return number


@lru_cache(maxsize=1024)
def _nearly_equal(number: int, count: int) -> tuple[tuple[int, ...], ...]:
    """The ways to split one axis whose factors are the most alike."""
    found = nsmallest(
        _SPLITS_OF_AN_AXIS,
        factorisations(number, count),
        key=lambda factors: sum(math.log(factor) ** 2 for factor in factors),
    )
    return tuple(found)


def _flaw(cores: Cores) -> float:
    """How far the cores are from equal sizes and from the matrix's proportions, and how many do not mix its axes."""
    part = 1 / len(cores.rows)
    size = math.prod(cores.sizes) ** part
    proportion = (math.prod(cores.rows) / math.prod(cores.columns)) ** part
    flaw = 0.0
    for row, column in zip(cores.rows, cores.columns, strict=True):
        flaw += math.log(row * column / size) ** 2
        flaw += _UNLIKE * math.log(row / column / proportion) ** 2
        flaw += _UNMIXED * (row == 1 or column == 1)
    return flaw
