"""Arrangements of gates on sites: functions that return a `Structure`. Any other is written down as its spans.

No torch here.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, cycle

from adtn.errors import StructureError
from adtn.sites import AnySites, Sites, as_sites
from adtn.structure import Activation, Span, Structure


def brick_wall(sites: AnySites, depth: int = 2, gate_sites: int = 2, activation: Activation = "relu") -> Structure:
    """The paper's layout: in each TN layer a row of gates side by side, then a row shifted by half a gate.

    For gate_sites=2: (0,1), (2,3), ..., then (1,2), (3,4), .... A gate that would stick out at the end is clipped, and
    left out if only one site remains (the other row touches it). With no more sites than gate_sites, a TN layer is one
    gate over all sites.

    Args:
        sites: Their number (of dimension 2), the dimension of each, or `Sites`.
        depth: Number of TN layers M, at least 1.
        gate_sites: Sites of a gate, at least 2.
        activation: What stands between TN layers.

    Raises:
        StructureError: A number is out of range.

    Example:
        >>> brick_wall(sites=16, depth=2).parameters
        384

    Source: arXiv:2305.06058.
    """
    sites = as_sites(sites)
    _at_least("depth", depth, 1)
    _at_least("gate_sites", gate_sites, 2)
    return _structure(sites, (_bricks(len(sites.dims), (gate_sites,)),) * depth, activation)


def mixed_brick_wall(
    sites: AnySites, widths: Sequence[int], depth: int = 2, activation: Activation = "relu"
) -> Structure:
    """A brick-wall of wider and narrower gates in turn.

    The second row of a TN layer is shifted by half the narrowest gate, so that it has a gate across every border of the
    first. Gates at the end are clipped or left out as in `brick_wall`; with no more sites than the first gate has, a TN
    layer is one gate.

    Args:
        sites: Their number (of dimension 2), the dimension of each, or `Sites`.
        widths: Sites of the gates of a row, from the left, repeated until it ends; each at least 2.
        depth: Number of TN layers M, at least 1.
        activation: What stands between TN layers.

    Raises:
        StructureError: A number is out of range.

    Example:
        >>> mixed_brick_wall(sites=10, widths=(3, 2), depth=1).tn_layers
        (((0, 3), (3, 5), (5, 8), (8, 10), (1, 4), (4, 6), (6, 9)),)

    Source: the brick-wall of arXiv:2305.06058 and its gates over more sites, in one TN layer.
    """
    sites = as_sites(sites)
    _at_least("depth", depth, 1)
    _at_least("number of widths", len(widths), 1)
    for i, width in enumerate(widths):
        _at_least(f"widths[{i}]", width, 2)
    return _structure(sites, (_bricks(len(sites.dims), widths),) * depth, activation)


def staircase(sites: AnySites, depth: int = 1, gate_sites: int = 2, activation: Activation = "relu") -> Structure:
    """Gates that go down the sites one by one: each overlaps the one before it in all but one of its sites.

    For gate_sites=2: (0,1), (1,2), (2,3), .... One TN layer of binary sites is a matrix product state (TT) of bond
    2^(gate_sites - 1), made one site after the other. With no more sites than gate_sites, a TN layer is one gate.

    Args:
        sites: Their number (of dimension 2), the dimension of each, or `Sites`.
        depth: Number of TN layers M, at least 1.
        gate_sites: Sites of a gate, at least 2.
        activation: What stands between TN layers.

    Raises:
        StructureError: A number is out of range.

    Example:
        >>> staircase(sites=5, gate_sites=3).tn_layers
        (((0, 3), (1, 4), (2, 5)),)

    Source: sequential generation of matrix product states, arXiv:quant-ph/0501096; several TN layers, arXiv:1908.07958.
    """
    sites = as_sites(sites)
    _at_least("depth", depth, 1)
    _at_least("gate_sites", gate_sites, 2)
    count = len(sites.dims)
    layer = tuple((start, min(start + gate_sites, count)) for start in range(max(1, count - gate_sites + 1)))
    return _structure(sites, (layer,) * depth, activation)


def fat_blocks(
    sites: AnySites, block_sites: int, depth: int = 1, gate_sites: int = 2, activation: Activation = "relu"
) -> Structure:
    """Blocks, vectors over several sites side by side, joined by thin gates across their borders; then a brick-wall.

    A block is the first to touch its sites, so it costs no more than its entries: wide as it is, it has one column.
    The first TN layer holds the blocks and a gate in the middle of each border, clipped to the sites there are; later
    TN layers are those of `brick_wall`. A last block of a single site is left out: the gate on its border touches it.

    Args:
        sites: Their number (of dimension 2), the dimension of each, or `Sites`.
        block_sites: Sites of a block, at least 2. With no more sites than that, the first TN layer is one block.
        depth: Number of TN layers M, at least 1.
        gate_sites: Sites of each other gate, at least 2.
        activation: What stands between TN layers.

    Raises:
        StructureError: A number is out of range.

    Example:
        >>> fat_blocks(sites=12, block_sites=4).tn_layers
        (((0, 4), (4, 8), (8, 12), (3, 5), (7, 9)),)

    Source: the brick-wall of arXiv:2305.06058 with wider gates where they are vectors.
    """
    sites = as_sites(sites)
    _at_least("block_sites", block_sites, 2)
    _at_least("depth", depth, 1)
    _at_least("gate_sites", gate_sites, 2)
    count = len(sites.dims)
    starts = [border - gate_sites // 2 for border in range(block_sites, count, block_sites)]
    joints = tuple((max(0, start), min(start + gate_sites, count)) for start in starts)
    blocks = tuple(_row(0, count, (block_sites,))) or ((0, 1),)
    later = (_bricks(count, (gate_sites,)),) * (depth - 1)
    return _structure(sites, ((*blocks, *joints), *later), activation)


def tt_matrix(rows: Sequence[int], columns: Sequence[int], bonds: Sequence[int] = ()) -> Structure:
    """A TT-matrix (matrix product operator): one TN layer whose gates are its cores, with as many numbers.

    Core k is a tensor (bonds[k-1], rows[k] * columns[k], bonds[k]), with bond 1 at both ends. The network hands a bond
    on in sites of the next core: of the sites of core k the first ones multiply to bonds[k-1]. Gate k reads them, no
    other site there being touched yet, and writes all sites of core k and the bond sites of core k+1.

    Args:
        rows: Row dimension of each core; they multiply to the rows of the matrix, the slowest first.
        columns: Column dimension of each core.
        bonds: Bond dimension between each core and the next, so one fewer. Each must be a divisor of the next core's
            row dimension times a divisor of its column dimension.

    Returns:
        A structure whose tensor has the indices of the rows before those of the columns.

    Raises:
        StructureError: The lists do not fit each other, a number is out of range, or a bond cannot be split.

    Example:
        >>> tt_matrix(rows=(4, 5, 6), columns=(8, 5, 10), bonds=(5, 6)).parameters
        1270

    Source: arXiv:1509.06569.
    """
    _check_cores(rows, columns, bonds)
    cores = [_core_dims(k, bond, rows[k], columns[k]) for k, bond in enumerate((1, *bonds))]
    sites = [(dim, axis) for core in cores for dim, axis in zip(core, (0, 1, 0, 1), strict=True) if dim > 1]
    borders = [0, *accumulate(_sites_of(core) for core in cores)]
    bond_sites = [*(_sites_of(core[:2]) for core in cores[1:]), 0]
    spans = tuple((borders[k], borders[k + 1] + more) for k, more in enumerate(bond_sites))
    order = sorted(range(len(sites)), key=lambda site: sites[site][1])  # stable: rows, then columns, each core by core
    return Structure(tuple(dim for dim, _ in sites), (spans,), "none", tuple(order))


def _check_cores(rows: Sequence[int], columns: Sequence[int], bonds: Sequence[int]) -> None:
    _at_least("number of rows", len(rows), 1)
    if len(columns) != len(rows) or len(bonds) != len(rows) - 1:
        raise StructureError(
            f"expected as many columns as rows, {len(rows)}, and {len(rows) - 1} bonds, "
            f"got {len(columns)} columns and {len(bonds)} bonds"
        )
    for name, values in (("rows", rows), ("columns", columns), ("bonds", bonds)):
        for k, value in enumerate(values):
            _at_least(f"{name}[{k}]", value, 1)
    for k in range(len(rows)):
        _at_least(f"rows[{k}] * columns[{k}]", rows[k] * columns[k], 2)


def _core_dims(k: int, bond: int, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Core k split: the bond's part of its rows and of its columns, then what remains of each. A 1 is not a site."""
    for part in range(bond, 0, -1):
        if bond % part == 0 and rows % part == 0 and columns % (bond // part) == 0:
            return part, bond // part, rows // part, columns * part // bond
    raise StructureError(
        f"bonds[{k - 1}]: expected a divisor of rows[{k}] = {rows} times a divisor of columns[{k}] = {columns}, "
        f"got {bond}"
    )


def _sites_of(dims: Sequence[int]) -> int:
    return sum(dim > 1 for dim in dims)


def _structure(sites: Sites, tn_layers: tuple[tuple[Span, ...], ...], activation: Activation) -> Structure:
    return Structure(sites.dims, tn_layers, activation, sites.order)


def _bricks(sites: int, widths: Sequence[int]) -> tuple[Span, ...]:
    """A TN layer of a brick-wall: two rows of gates."""
    if sites <= widths[0]:
        return ((0, sites),)
    return (*_row(0, sites, widths), *_row(min(widths) // 2, sites, widths))


def _row(first: int, sites: int, widths: Sequence[int]) -> Iterator[Span]:
    """Gates side by side from site `first` on; one that would hold a single site is left out."""
    start = first
    for width in cycle(widths):
        if start >= sites - 1:
            return
        yield start, min(start + width, sites)
        start += width


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise StructureError(f"{name}: expected at least {least}, got {value}")
