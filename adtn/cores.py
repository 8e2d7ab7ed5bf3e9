"""The cores of a TT-matrix: into which factors the rows and columns of a matrix are split, and with which bonds.

No torch here.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from itertools import groupby, permutations, product
from typing import NamedTuple

from adtn.arrangements import tt_matrix
from adtn.structure import Structure

_SPLITS_OF_AN_AXIS = 64
"""Of each axis, those nearest to equal factors are combined with those of the other."""
_UNMIXED = 1.0
"""Flaw of each core that has only rows or only columns."""
_UNLIKE = 0.1
"""Weight of how far the rows and columns of a core are from the proportions of the whole matrix."""
_ROUNDING = 1e-9
"""More than sums of squared logarithms are off by."""


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
        return tt_matrix(self.rows, self.columns, self._bonds(wanted))

    def parameters(self, wanted: float) -> int:
        """Numbers of that TT-matrix, which is not made.

        Args:
            wanted: As in `with_bonds`.
        """
        bonds = (1, *self._bonds(wanted), 1)
        return sum(size * bonds[k] * bonds[k + 1] for k, size in enumerate(self.sizes))

    def _bonds(self, wanted: float) -> list[int]:
        sizes = self.sizes
        bonds: list[int] = []
        for k in range(1, len(sizes)):
            highest = min(math.prod(sizes[:k]), math.prod(sizes[k:]))
            bonds.append(_nearest_bond(self.rows[k], self.columns[k], highest, wanted))
        return bonds


def core_splits(rows: int, columns: int, count: int, most: int) -> list[Cores]:
    """Ways to split a matrix into cores: of about the same size, each with rows and columns; the best first.

    Factors of the two axes are combined in the order of a bound on how good their cores can be; once that is worse than
    what was found, so are all that follow.

    Args:
        rows: Of the matrix.
        columns: Of the matrix.
        count: Number of cores, at least 1.
        most: How many ways are returned at most, at least 1. None is there if the matrix has too few factors.

    Example:
        >>> core_splits(16, 150, 3, 1)
        [Cores(rows=(2, 2, 4), columns=(5, 6, 5))]
    """
    size, proportion = (rows * columns) ** (1 / count), (rows / columns) ** (1 / count)
    pairs = product(_nearly_equal(rows, count), _nearly_equal(columns, count))
    best: list[tuple[float, tuple[int, ...], tuple[int, ...]]] = []
    for least, of_rows, of_columns in sorted((_least_flaw(*pair), *pair) for pair in pairs):
        if len(best) == most and least > best[-1][0]:
            break
        for split in product(of_rows.orders, of_columns.orders):
            cores = list(zip(*split, strict=True))
            if (1, 1) not in cores:
                best.append((_flaw(cores, size, proportion), *split))
        best = sorted(best)[:most]
    return [Cores(row_split, column_split) for _, row_split, column_split in best]


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


@lru_cache(maxsize=16_384)  # many cores of a matrix, and of others, are alike
def _nearest_bond(rows: int, columns: int, highest: int, wanted: float) -> int:
    """Of the bonds that can be handed on to a core, none above `highest`, the one nearest to `wanted`."""
    possible = (bond for bond in possible_bonds(rows, columns) if bond <= highest)
    return min(possible, key=lambda bond: (abs(math.log(bond / wanted)), bond))


class _Factors(NamedTuple):
    """Into which factors one axis is split, a factor for each core.

    Args:
        orders: In which they may stand.
        spread: The norm of what their logarithms differ by from equal factors.
        ones: How many of them are 1.
    """

    orders: tuple[tuple[int, ...], ...]
    spread: float
    ones: int


@lru_cache(maxsize=1024)
def _nearly_equal(number: int, count: int) -> tuple[_Factors, ...]:
    """The ways to split one axis whose factors are the most alike."""

    def unlikeness(factors: tuple[int, ...]) -> float:
        return sum(math.log(factor) ** 2 for factor in factors)

    # In another order factors are just as alike, but for rounding: it decides which of the last ones are left out.
    found: set[tuple[int, ...]] = set()
    highest = 0.0
    for factors in sorted(_multisets(number, count), key=unlikeness):
        if len(found) >= _SPLITS_OF_AN_AXIS and unlikeness(factors) > highest + _ROUNDING:
            break
        found.update(permutations(factors))
        highest = unlikeness(factors)
    best = nsmallest(_SPLITS_OF_AN_AXIS, found, key=lambda factors: (unlikeness(factors), factors))
    mean = math.log(number) / count
    return tuple(
        _Factors(tuple(orders), math.hypot(*(math.log(factor) - mean for factor in factors)), factors.count(1))
        for factors, orders in groupby(sorted(best, key=sorted), key=sorted)
    )


def _multisets(number: int, count: int, least: int = 1) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a product of `count` factors in ascending order, none below `least`."""
    if count == 1:
        yield (number,)
        return
    for factor in divisors(number):
        if factor >= least and factor**count <= number:
            for rest in _multisets(number // factor, count - 1, factor):
                yield factor, *rest


def _least_flaw(rows: _Factors, columns: _Factors) -> float:
    """A bound from below on the flaw of cores with these rows and columns, in whatever order.

    Let a and b be the vectors by which their logarithms differ from equal factors. The first two parts of the flaw are
    |a + b|^2 and |a - b|^2, so the least is reached where a and b point in opposite directions.
    """
    apart, together = rows.spread - columns.spread, rows.spread + columns.spread
    return apart**2 + _UNLIKE * together**2 + _UNMIXED * (rows.ones + columns.ones) - _ROUNDING


def _flaw(cores: Iterable[tuple[int, int]], size: float, proportion: float) -> float:
    """How far the cores are from equal sizes and from the matrix's proportions, and how many do not mix its axes.

    Args:
        cores: Rows and columns of each.
        size: That cores of equal sizes would have.
        proportion: Rows over columns that each would have, were all alike.
    """
    flaw = 0.0
    for row, column in cores:
        unequal, unlike, unmixed = _flaws_of_core(row, column, size, proportion)
        flaw = flaw + unequal + unlike + unmixed
    return flaw


@lru_cache(maxsize=4096)  # of the splits of a matrix, many have a core in common
def _flaws_of_core(row: int, column: int, size: float, proportion: float) -> tuple[float, float, float]:
    unequal, unlike = math.log(row * column / size) ** 2, math.log(row / column / proportion) ** 2
    return unequal, _UNLIKE * unlike, _UNMIXED * (row == 1 or column == 1)
