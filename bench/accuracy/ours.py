"""This project's recipe: from a budget to the structure of each layer."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import adtn
from adtn.structure import Structure
from bench.accuracy.allocation import Option, Share, choose
from bench.accuracy.factors import Form, GatesForm
from bench.accuracy.layers import Shapes

LARGEST = (4, 8, 2, 6)
"""Dimension up to which prime factors share a site."""
BLOCK_SITES = (3, 4, 2)
MOST_TERMS = 5
_OTHER_BLOCKS = 0.05
"""Flaw of blocks over other than the first number of sites."""
_STAIRCASE = 0.2
"""Flaw of a staircase, which is taken where a network of blocks is too large."""
_PADDED = 0.4
"""Flaw of networks on padded binary sites, which are smaller still."""
CHANNELS: dict[tuple[int, ...], tuple[int, ...]] = {(120, 400): (120, 16, 25)}
"""The columns of the first linear layer are 16 channels of 25 positions."""


def ours(share: Share) -> Callable[[Shapes, int], dict[str, Form]]:
    """The recipe: fat blocks of rows and columns, joined by thin gates; for larger budgets a sum of several.

    Args:
        share: How a budget is divided.
    """

    def recipe(shapes: Shapes, budget: int) -> dict[str, Form]:
        return choose({layer: _options(shape) for layer, shape in shapes.items()}, budget, share(shapes))

    return recipe


@lru_cache
def _options(shape: tuple[int, ...]) -> tuple[Option, ...]:
    """Networks of several sizes, alone and as sums."""
    options = []
    for network, flaw in _networks(shape):
        options.append(Option(GatesForm(network), flaw))
        for terms in range(2, MOST_TERMS + 1):
            options.append(Option(GatesForm(adtn.Sum((network,) * terms)), flaw))
    return tuple(options)


def _networks(shape: tuple[int, ...]) -> Iterator[tuple[Structure, float]]:
    """Fat blocks on interleaved sites, of the kernel's two axes apart or as one, and staircases; with their flaws."""
    axes = {shape, (shape[0], math.prod(shape[1:])), CHANNELS.get(shape, shape)}
    for sites in (adtn.interleaved(split, largest) for split in sorted(axes, key=len) for largest in LARGEST):
        for block_sites in BLOCK_SITES:
            yield (
                adtn.fat_blocks(sites, block_sites, activation="none"),
                0.0 if block_sites == BLOCK_SITES[0] else _OTHER_BLOCKS,
            )
        yield adtn.staircase(sites, activation="none"), _STAIRCASE
    padded = adtn.sites_for(shape)
    yield adtn.brick_wall(padded, depth=1, activation="none"), _PADDED
    yield adtn.staircase(padded, activation="none"), _PADDED
