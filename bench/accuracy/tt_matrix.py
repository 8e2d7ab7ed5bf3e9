"""The TT-matrix with three cores a layer, on mixed-radix sites: the peer to beat, so it gets a search of its own.

Every way to split rows and columns into three factors each is looked at, with every pair of bonds that
`adtn.tt_matrix` can write down. Of those with about as many numbers, the one whose cores have the wanted sizes and
whose bonds are most alike is taken.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from torch import Tensor

import adtn
from adtn.cores import factorisations, possible_bonds
from adtn.structure import Structure
from bench.accuracy.allocation import Option, Share, choose
from bench.accuracy.factors import Form, Gates, GatesForm
from bench.accuracy.layers import Shapes, as_matrix

CORES = 3
EVEN = (1 / 3, 1 / 3, 1 / 3)
SMALL_MIDDLE = (0.38, 0.24, 0.38)
"""The middle core has two bonds, so its other indices cost the most."""
_CORE_SHAPES = 60
"""Splits of rows and columns that are looked at: those whose cores are nearest to the wanted sizes."""
_UNMIXED = 1.0
"""Flaw of each core that has only rows or only columns."""
_UNLIKE = 0.1
"""Weight of how far the rows and columns of a core are from the proportions of the whole matrix."""
_LARGEST_BOND = 64

Cores = tuple[tuple[int, ...], ...]
"""The rows of each core, and its columns."""


@dataclass(frozen=True)
class TTMatrix:
    """A TT-matrix.

    Args:
        rows: Of each core.
        columns: Of each core.
        bonds: Between the cores.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    bonds: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Numbers stored."""
        bonds = (1, *self.bonds, 1)
        return sum(bonds[k] * self.rows[k] * self.columns[k] * bonds[k + 1] for k in range(len(self.rows)))

    @property
    def structure(self) -> Structure:
        """Its cores as gates."""
        return adtn.tt_matrix(self.rows, self.columns, self.bonds)

    def describe(self) -> dict[str, Any]:
        """Rows, columns and bonds."""
        return {"rows": list(self.rows), "columns": list(self.columns), "bonds": list(self.bonds)}

    def start(self, weight: Tensor, moment: Tensor, seed: int) -> Gates:
        """Orthogonal cores."""
        return GatesForm(self.structure).start(weight, moment, seed)


def tt_matrix(profile: tuple[float, ...], share: Share) -> Callable[[Shapes, int], dict[str, Form]]:
    """A recipe.

    Args:
        profile: Of the cores' sizes: core k has about entries ** profile[k] pairs of a row and a column.
        share: Of the layers.
    """

    def forms(shapes: Shapes, budget: int) -> dict[str, Form]:
        options = {layer: _options(as_matrix(shape), profile, budget) for layer, shape in shapes.items()}
        return choose(options, budget, share(shapes))

    return forms


def _options(shape: tuple[int, int], profile: tuple[float, ...], budget: int) -> Iterator[Option]:
    """Core shapes with all their bonds, for a matrix of some shape."""
    for flaw, (rows, columns) in _core_shapes(shape, profile):
        sizes = [row * column for row, column in zip(rows, columns, strict=True)]
        for first, second in product(_bonds(rows[1], columns[1]), _bonds(rows[2], columns[2])):
            redundant = first > min(sizes[0], sizes[1] * second) or second > min(sizes[2], first * sizes[1])
            form = TTMatrix(rows, columns, (first, second))
            if form.numbers <= budget and not redundant:
                yield Option(form, flaw + math.log(first / second) ** 2 / 4)


@cache
def _core_shapes(shape: tuple[int, int], profile: tuple[float, ...]) -> list[tuple[float, Cores]]:
    """The splits nearest to the profile, with their flaws."""
    found = [(_flaw(cores, profile), cores) for cores in product(*(factorisations(extent, CORES) for extent in shape))]
    return sorted(found)[:_CORE_SHAPES]


def _flaw(cores: Cores, profile: tuple[float, ...]) -> float:
    """How far the cores are from the profile and from the matrix's proportions, and how many do not mix its axes."""
    rows, columns = (math.prod(axis) for axis in cores)
    flaw = 0.0
    for row, column, part in zip(*cores, profile, strict=True):
        flaw += math.log(row * column / (rows * columns) ** part) ** 2
        flaw += _UNLIKE * math.log(row / column / (rows / columns) ** part) ** 2
        flaw += _UNMIXED * (row == 1 or column == 1)
    return flaw


def _bonds(rows: int, columns: int) -> list[int]:
    """The bonds that `adtn.tt_matrix` can hand on to a core."""
    return [bond for bond in possible_bonds(rows, columns) if bond <= _LARGEST_BOND]
