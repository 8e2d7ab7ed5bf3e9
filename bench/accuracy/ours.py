"""This project's recipe: from a budget to the structure of each layer."""

import random
from collections.abc import Iterator

import adtn
from adtn.structure import AnyStructure, Structure
from bench.accuracy.allocation import CUBE_ROOT, Option, choose
from bench.accuracy.factors import Form, GatesForm
from bench.accuracy.layers import SHAPES, Shapes

LARGEST = (2, 4, 6)
"""Dimension up to which prime factors share a site."""
BLOCK_SITES = (2, 3, 4, 5)
ORDERS = 150
"""Orders of the sites that are tried. Gates at the borders of blocks are small where sites of dimension 2 meet."""
MOST_TERMS = 5
LARGE_BUDGET = 1800
"""From here on sums are taken; below, one network with larger blocks is better."""
_UNMIXED = 0.5
"""Flaw of each gate that has only sites of rows or only sites of columns."""


def ours(budget: int) -> dict[str, AnyStructure]:
    """Fat blocks of rows and columns, joined by thin gates; for larger budgets a sum of several.

    Args:
        budget: Numbers of all layers together.
    """
    forms = choose({layer: _options(shape, budget) for layer, shape in SHAPES.items()}, budget, CUBE_ROOT(SHAPES))
    return {layer: form.structure for layer, form in forms.items() if isinstance(form, GatesForm)}


def recipe(_shapes: Shapes, budget: int) -> dict[str, Form]:
    """`ours`, as the other methods have it."""
    return {layer: GatesForm(structure) for layer, structure in ours(budget).items()}


def _options(shape: tuple[int, ...], budget: int) -> Iterator[Option]:
    """Networks of several sizes, alone and, where there is room for it, as sums."""
    for network, flaw in _networks(shape):
        yield Option(GatesForm(network), flaw)
        if budget >= LARGE_BUDGET:
            for terms in range(2, MOST_TERMS + 1):
                yield Option(GatesForm(adtn.Sum((network,) * terms)), flaw)


def _networks(shape: tuple[int, ...]) -> Iterator[tuple[Structure, float]]:
    """Fat blocks of several sizes on sites in several orders, with their flaws."""
    drawn = random.Random(0)
    for largest in LARGEST:
        dims = adtn.mixed_radix(shape, largest).dims
        rows = len(adtn.mixed_radix((shape[0],), largest).dims)
        for _ in range(ORDERS):
            indices = drawn.sample(range(len(dims)), len(dims))  # the index of the tensor that each site is
            sites = adtn.Sites(tuple(dims[k] for k in indices), tuple(indices.index(k) for k in range(len(dims))))
            for block_sites in BLOCK_SITES:
                network = adtn.fat_blocks(sites, block_sites, activation="none")
                yield network, _UNMIXED * _unmixed(network, [k < rows for k in indices])


def _unmixed(network: Structure, is_row: list[bool]) -> int:
    """Gates that have only sites of rows or only sites of columns."""
    return sum(len(set(is_row[start:stop])) == 1 for layer in network.tn_layers for start, stop in layer)
