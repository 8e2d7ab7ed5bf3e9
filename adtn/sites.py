"""The sites of a weight: into which dimensions it is split, and which of them are neighbours in the network.

No torch here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adtn.errors import StructureError


@dataclass(frozen=True)
class Sites:
    """The sites of a network; checked by the `Structure` that is built on them.

    Args:
        dims: Dimension of each site, in the network's own order.
        order: `order[k]` is the site that is index k of the tensor, the slowest first; () is the natural order.
    """

    dims: tuple[int, ...]
    order: tuple[int, ...] = ()


AnySites = int | Sequence[int] | Sites
"""A number of sites of dimension 2, the dimension of each site, or dimensions and order."""


def as_sites(sites: AnySites) -> Sites:
    """What was given, as `Sites`.

    Raises:
        StructureError: There is no site.
    """
    if isinstance(sites, int):
        sites = (2,) * sites
    if not isinstance(sites, Sites):
        sites = Sites(tuple(sites))
    if not sites.dims:
        raise StructureError("sites: expected at least 1, got 0")
    return sites


def sites_for(shape: Sequence[int]) -> int:
    """How many sites of dimension 2 hold a tensor of this shape: ceil(log2(entries)), at least 1.

    The tensor is padded to the power of two.

    Args:
        shape: Of the weight.

    Raises:
        StructureError: The shape holds no entries.

    Example:
        >>> sites_for((120, 400))
        16

    Source: arXiv:2305.06058.
    """
    entries = math.prod(shape)
    if entries < 1:
        raise StructureError(f"shape: expected at least one entry, got {tuple(shape)}")
    return max(1, (entries - 1).bit_length())


def mixed_radix(shape: Sequence[int], largest: int = 2) -> Sites:
    """Sites that multiply to exactly this shape, axis by axis, so that nothing is padded.

    Each axis is split into its prime factors; factors whose product is at most `largest` share a site. A larger prime
    factor remains a site by itself, and makes the gates on it as large: look at the structure's `parameters`.

    Args:
        shape: Of the weight; an axis of extent 1 gets no site.
        largest: Dimension up to which factors are multiplied; 2 leaves every prime factor alone.

    Raises:
        StructureError: The shape has fewer than two entries, or a number is out of range.

    Example:
        >>> mixed_radix((120, 400), largest=8).dims
        (5, 6, 4, 5, 5, 8, 2)

    Source: mixed-radix index, as in the TT-matrix layers of arXiv:1509.06569.
    """
    _check(shape, largest)
    return Sites(tuple(dim for extent in shape for dim in _factors(extent, largest)))


def interleaved(shape: Sequence[int], largest: int = 2) -> Sites:
    """Sites of a matrix as `mixed_radix` has them, those of the rows and of the columns in turn.

    The first axis is the rows, the others together are the columns. A gate over neighbouring sites then mixes rows with
    columns; `order` brings the tensor into the weight's own layout. If one side has more sites, they are spread evenly.

    Args:
        shape: Of the weight.
        largest: As in `mixed_radix`.

    Raises:
        StructureError: The shape has fewer than two entries, or a number is out of range.

    Example:
        >>> interleaved((6, 35))
        Sites(dims=(3, 7, 2, 5), order=(0, 2, 1, 3))

    Source: the order of indices in a TT-matrix (matrix product operator), arXiv:1509.06569.
    """
    _check(shape, largest)
    rows = _factors(shape[0], largest)
    columns = [dim for extent in shape[1:] for dim in _factors(extent, largest)]
    # Site i of n stands at (2 i + 1) / 2n of the way; both sides over one denominator.
    places = [(2 * i + 1) * len(columns) for i in range(len(rows))]
    places += [(2 * i + 1) * len(rows) for i in range(len(columns))]
    indices = sorted(range(len(places)), key=places.__getitem__)  # the index of the tensor that each site is
    dims = [*rows, *columns]
    return Sites(tuple(dims[k] for k in indices), tuple(indices.index(k) for k in range(len(indices))))


def _check(shape: Sequence[int], largest: int) -> None:
    if any(extent < 1 for extent in shape) or math.prod(shape) < 2:
        raise StructureError(f"shape: expected positive numbers and at least two entries, got {tuple(shape)}")
    if largest < 2:
        raise StructureError(f"largest: expected at least 2, got {largest}")


def _factors(extent: int, largest: int) -> list[int]:
    """The dimensions of one axis: its prime factors from the largest on, each with the first it still fits to."""
    dims: list[int] = []
    for prime in reversed(list(_primes(extent))):
        for site, dim in enumerate(dims):
            if dim * prime <= largest:
                dims[site] *= prime
                break
        else:
            dims.append(prime)
    return dims


def _primes(number: int) -> Iterator[int]:
    """Its prime factors in ascending order."""
    factor = 2
    while factor * factor <= number:
        while number % factor == 0:
            yield factor
            number //= factor
        factor += 1
    if number > 1:
        yield number
