"""This project's recipe: from a budget to the structure of each layer."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import adtn
from adtn.cores import core_splits
from adtn.structure import AnyStructure
from bench.accuracy.allocation import Option, Share, choose
from bench.accuracy.factors import Form, GatesForm
from bench.accuracy.layers import Shapes, as_matrix

MOST_TERMS = 5
BONDS = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 12, 16)
"""What the bonds of a term are near to."""
CORES = {3: 0.0, 4: 0.05, 2: 0.1}
"""Cores of a term, with the flaw of that number."""
_FIRST_SPLITS = 6
"""Sums begin with each of the best splits, so that they come in many sizes."""
_WORSE_SPLIT = 0.01
"""Flaw of each place that a sum begins later."""
_OTHER_TERMS = 0.1
"""Flaw of each term more or less than wanted."""


def ours(terms: int, share: Share) -> Callable[[Shapes, int], dict[str, Form]]:
    """The recipe: a sum of TT-matrices whose cores split the rows and columns each in another way.

    Args:
        terms: How many, where the budget allows it.
        share: How a budget is divided.
    """

    def recipe(shapes: Shapes, budget: int) -> dict[str, Form]:
        options = {layer: _options(*as_matrix(shape), terms) for layer, shape in shapes.items()}
        return choose(options, budget, share(shapes))

    return recipe


@lru_cache
def _options(rows: int, columns: int, wanted: int) -> tuple[Option, ...]:
    """Sums of several sizes."""
    return tuple(
        Option(GatesForm(structure), flaw + _OTHER_TERMS * abs(len(structure.terms) - wanted))
        for structure, flaw in _sums(rows, columns)
        if structure.parameters < rows * columns
    )


def _sums(rows: int, columns: int) -> Iterator[tuple[AnyStructure, float]]:
    """Networks with their flaws."""
    for cores, flaw in CORES.items():
        splits = core_splits(rows, columns, cores, _FIRST_SPLITS + MOST_TERMS)
        for bond in BONDS:
            networks = [split.with_bonds(bond) for split in splits]
            for first in range(_FIRST_SPLITS):
                for terms in range(1, MOST_TERMS + 1):
                    chosen = tuple(networks[first : first + terms])
                    yield (adtn.Sum(chosen) if terms > 1 else chosen[0]), flaw + first * _WORSE_SPLIT
