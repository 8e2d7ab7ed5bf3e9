import doctest
import math
from collections.abc import Callable

import opt_einsum
import pytest
import torch
from torch import Tensor

import adtn
import adtn.arrangements
from adtn.arrangements import brick_wall, fat_blocks, mixed_brick_wall, staircase, tt_matrix
from adtn.errors import StructureError
from adtn.sites import Sites, interleaved, mixed_radix
from adtn.structure import Structure

BUILDERS: dict[str, Callable[[int | tuple[int, ...] | Sites, int], Structure]] = {
    "brick_wall of 2": lambda sites, depth: brick_wall(sites, depth),
    "brick_wall of 3": lambda sites, depth: brick_wall(sites, depth, 3),
    "brick_wall of 5": lambda sites, depth: brick_wall(sites, depth, 5),
    "mixed 3, 2": lambda sites, depth: mixed_brick_wall(sites, (3, 2), depth),
    "mixed 4, 2": lambda sites, depth: mixed_brick_wall(sites, (4, 2), depth),
    "mixed 2, 6, 3": lambda sites, depth: mixed_brick_wall(sites, (2, 6, 3), depth),
    "staircase of 2": lambda sites, depth: staircase(sites, depth),
    "staircase of 4": lambda sites, depth: staircase(sites, depth, 4),
    "blocks of 3": lambda sites, depth: fat_blocks(sites, 3, depth),
    "blocks of 4, gates of 3": lambda sites, depth: fat_blocks(sites, 4, depth, 3),
    "blocks of 2, gates of 6": lambda sites, depth: fat_blocks(sites, 2, depth, 6),
}
every_builder = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def test_the_examples_in_the_docstrings_are_right() -> None:
    assert doctest.testmod(adtn.arrangements) == (0, 5)


@every_builder
@pytest.mark.parametrize("sites", range(1, 20))
def test_every_tn_layer_touches_all_sites_and_no_gate_holds_a_single_one(
    build: Callable[[int, int], Structure], sites: int
) -> None:
    structure = build(sites, 3)
    assert (structure.sites, structure.depth) == (sites, 3)
    for layer in structure.tn_layers:
        assert {site for start, stop in layer for site in range(start, stop)} == set(range(sites))
        assert all(stop - start >= min(2, sites) for start, stop in layer)


@every_builder
@pytest.mark.parametrize("sites", range(2, 20))
def test_the_first_tn_layer_joins_all_sites(build: Callable[[int, int], Structure], sites: int) -> None:
    spans = build(sites, 1).tn_layers[0]
    assert all(any(start < border < stop for start, stop in spans) for border in range(1, sites))


@every_builder
def test_dimensions_order_and_activation_go_into_the_structure(
    build: Callable[[Sites | tuple[int, ...], int], Structure],
) -> None:
    sites = interleaved((120, 400), 8)
    structure = build(sites, 2)
    assert (structure.dims, structure.order) == (sites.dims, sites.order)
    assert structure.shape == mixed_radix((120, 400), 8).dims
    assert structure.size == 120 * 400
    assert structure.activation == "relu"
    assert build(sites.dims, 2).tn_layers == structure.tn_layers
    assert build(sites.dims, 2).order == tuple(range(len(sites.dims)))


def test_the_activation_is_the_one_asked_for() -> None:
    made = [
        brick_wall(8, activation="tanh"),
        mixed_brick_wall(8, (3, 2), activation="tanh"),
        staircase(8, activation="tanh"),
        fat_blocks(8, 4, activation="tanh"),
    ]
    assert {structure.activation for structure in made} == {"tanh"}


def test_brick_wall_of_two_site_gates_has_even_then_odd_pairs() -> None:
    assert brick_wall(5, depth=2).tn_layers == (((0, 2), (2, 4), (1, 3), (3, 5)),) * 2


def test_brick_wall_shifts_the_second_row_by_half_a_gate_and_clips_at_the_end() -> None:
    assert brick_wall(10, depth=1, gate_sites=4).tn_layers == (((0, 4), (4, 8), (8, 10), (2, 6), (6, 10)),)


@pytest.mark.parametrize("sites", [1, 2, 3, 4])
def test_no_more_sites_than_a_gate_holds_make_one_gate_a_tn_layer(sites: int) -> None:
    assert brick_wall(sites, depth=3, gate_sites=4).tn_layers == (((0, sites),),) * 3
    assert mixed_brick_wall(sites, (4, 2), depth=3).tn_layers == (((0, sites),),) * 3
    assert staircase(sites, depth=3, gate_sites=4).tn_layers == (((0, sites),),) * 3
    assert fat_blocks(sites, 4, depth=3, gate_sites=4).tn_layers == (((0, sites),),) * 3


@pytest.mark.parametrize("gate_sites", [2, 3, 4, 5])
@pytest.mark.parametrize("sites", range(1, 20))
def test_a_mixed_brick_wall_of_one_width_is_a_brick_wall(sites: int, gate_sites: int) -> None:
    assert mixed_brick_wall(sites, (gate_sites,)) == brick_wall(sites, 2, gate_sites)
    assert mixed_brick_wall(sites, [gate_sites] * 3) == brick_wall(sites, 2, gate_sites)


def test_mixed_brick_wall_repeats_the_widths_in_both_rows() -> None:
    assert mixed_brick_wall(11, (3, 2), depth=1).tn_layers == (
        ((0, 3), (3, 5), (5, 8), (8, 10), (1, 4), (4, 6), (6, 9), (9, 11)),
    )
    assert mixed_brick_wall(9, (2, 4), depth=1).tn_layers == (((0, 2), (2, 6), (6, 8), (1, 3), (3, 7), (7, 9)),)


@pytest.mark.parametrize(
    ("sites", "gate_sites", "spans"),
    [
        (5, 2, ((0, 2), (1, 3), (2, 4), (3, 5))),
        (5, 3, ((0, 3), (1, 4), (2, 5))),
        (3, 2, ((0, 2), (1, 3))),
    ],
)
def test_each_gate_of_a_staircase_begins_one_site_after_the_one_before(
    sites: int, gate_sites: int, spans: tuple
) -> None:
    assert staircase(sites, 2, gate_sites).tn_layers == (spans,) * 2


def test_a_staircase_has_as_many_numbers_as_the_matrix_product_state_it_makes() -> None:
    # Bond 2, then 4; the core of the last site is multiplied into the one before.
    assert staircase(16).parameters == 4 + 14 * 8
    assert staircase(16, gate_sites=3).parameters == 8 + 13 * 8 * 4


@pytest.mark.parametrize(
    ("sites", "block_sites", "gate_sites", "spans"),
    [
        (8, 4, 2, ((0, 4), (4, 8), (3, 5))),
        (10, 4, 2, ((0, 4), (4, 8), (8, 10), (3, 5), (7, 9))),
        (9, 4, 2, ((0, 4), (4, 8), (3, 5), (7, 9))),  # the last site is left to the gate on its border
        (9, 4, 4, ((0, 4), (4, 8), (2, 6), (6, 9))),
        (6, 2, 6, ((0, 2), (2, 4), (4, 6), (0, 5), (1, 6))),
    ],
)
def test_fat_blocks_are_joined_across_their_borders(
    sites: int, block_sites: int, gate_sites: int, spans: tuple
) -> None:
    assert fat_blocks(sites, block_sites, 1, gate_sites).tn_layers == (spans,)


def test_fat_blocks_are_vectors_and_a_brick_wall_follows() -> None:
    structure = fat_blocks(12, 4, depth=2)
    assert structure.gate_shapes[:5] == ((16, 1),) * 3 + ((4, 4),) * 2
    assert structure.tn_layers[1] == brick_wall(12, 1).tn_layers[0]
    assert structure.parameters == 3 * 16 + 2 * 16 + 11 * 16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: brick_wall(0, 1, 2), "sites: expected at least 1, got 0"),
        (lambda: brick_wall((), 1, 2), "sites: expected at least 1, got 0"),
        (lambda: brick_wall(4, 0, 2), "depth: expected at least 1, got 0"),
        (lambda: brick_wall(4, 1, 1), "gate_sites: expected at least 2, got 1"),
        (lambda: brick_wall((2, 1)), r"dims\[1\]: expected an integer of at least 2, got 1"),
        (lambda: brick_wall(Sites((2, 2), (0, 2))), "order: expected each site"),
        (lambda: mixed_brick_wall(0, (2,)), "sites: expected at least 1, got 0"),
        (lambda: mixed_brick_wall(4, ()), "number of widths: expected at least 1, got 0"),
        (lambda: mixed_brick_wall(4, (2, 1)), r"widths\[1\]: expected at least 2, got 1"),
        (lambda: mixed_brick_wall(4, (2, 3), 0), "depth: expected at least 1, got 0"),
        (lambda: staircase(0), "sites: expected at least 1, got 0"),
        (lambda: staircase(4, 0), "depth: expected at least 1, got 0"),
        (lambda: staircase(4, 1, 1), "gate_sites: expected at least 2, got 1"),
        (lambda: fat_blocks(0, 4), "sites: expected at least 1, got 0"),
        (lambda: fat_blocks(4, 1), "block_sites: expected at least 2, got 1"),
        (lambda: fat_blocks(4, 2, 0), "depth: expected at least 1, got 0"),
        (lambda: fat_blocks(4, 2, 1, 1), "gate_sites: expected at least 2, got 1"),
        (lambda: tt_matrix((), ()), "number of rows: expected at least 1, got 0"),
        (lambda: tt_matrix((2, 2), (2,), (2,)), "as many columns as rows, 2, and 1 bonds, got 1 columns and 1 bonds"),
        (lambda: tt_matrix((2, 2), (2, 2)), "as many columns as rows, 2, and 1 bonds, got 2 columns and 0 bonds"),
        (lambda: tt_matrix((2, 0), (2, 2), (2,)), r"rows\[1\]: expected at least 1, got 0"),
        (lambda: tt_matrix((2, 2), (-2, 2), (2,)), r"columns\[0\]: expected at least 1, got -2"),
        (lambda: tt_matrix((2, 2), (2, 2), (0,)), r"bonds\[0\]: expected at least 1, got 0"),
        (lambda: tt_matrix((2, 1), (2, 1), (1,)), r"rows\[1\] \* columns\[1\]: expected at least 2, got 1"),
        (
            lambda: tt_matrix((4, 4, 5), (4, 4, 6), (2, 4)),
            r"bonds\[1\]: expected a divisor of rows\[2\] = 5 times a divisor of columns\[2\] = 6, got 4",
        ),
        (lambda: tt_matrix((4, 2), (4, 2), (8,)), r"bonds\[0\]: .*, got 8"),  # more than the core has entries
    ],
)
def test_bad_input_is_one_clear_error(build: Callable[[], Structure], message: str) -> None:
    with pytest.raises(StructureError, match=message):
        build()


TT_MATRICES = {
    "lenet5 fc1": ((4, 5, 6), (8, 5, 10), (5, 6)),
    "bonds of rows only": ((2, 3, 4), (5, 5, 7), (3, 4)),
    "bonds of columns only": ((5, 5), (2, 6), (6,)),
    "bonds as large as the cores": ((2, 3, 2), (2, 2, 2), (6, 4)),
    "bonds of 1": ((2, 3), (4, 5), (1,)),
    "a column vector in the middle": ((2, 6, 2), (3, 1, 4), (3, 2)),
    "rows of 1": ((1, 1, 1), (4, 6, 4), (2, 4)),
    "one core": ((6,), (7,), ()),
}


def tt_einsum(cores: list[Tensor]) -> Tensor:
    """The matrix of TT cores (bond, rows, columns, bond): all row indices before all column indices."""
    operands: list[object] = []
    count = len(cores)
    for k, core in enumerate(cores):
        operands += [core, [k, 100 + k, 200 + k, k + 1]]
    result = [0, *range(100, 100 + count), *range(200, 200 + count), count]
    rows = math.prod(core.shape[1] for core in cores)
    return opt_einsum.contract(*operands, result).reshape(rows, -1)


def row_part(bond: int, rows: int, columns: int) -> int:
    """The part of a bond that is in the row sites of a core: the largest that leaves a rest for its column sites."""
    return max(n for n in range(1, bond + 1) if bond % n == 0 == rows % n and columns % (bond // n) == 0)


def tt_gate(core: Tensor) -> Tensor:
    """The gate (out, in) of a TT core (bond, rows, columns, next bond); the sites of the bond come first."""
    bond, rows, columns, following = core.shape
    part = row_part(bond, rows, columns)
    split = core.reshape(bond, part, rows // part, bond // part, columns * part // bond, following)
    return split.permute(1, 3, 2, 4, 5, 0).reshape(-1, bond)


@pytest.mark.parametrize(("rows", "columns", "bonds"), TT_MATRICES.values(), ids=TT_MATRICES)
def test_tt_matrix_is_the_tt_matrix_of_its_cores(
    rows: tuple[int, ...], columns: tuple[int, ...], bonds: tuple[int, ...]
) -> None:
    structure = tt_matrix(rows, columns, bonds)
    generator = torch.Generator().manual_seed(0)
    shapes = zip([1, *bonds], rows, columns, [*bonds, 1], strict=True)
    cores = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    gates = [tt_gate(core) for core in cores]
    assert [tuple(gate.shape) for gate in gates] == list(structure.gate_shapes)
    flat = torch.cat([gate.reshape(-1) for gate in gates])
    actual = adtn.contract(flat, structure).reshape(math.prod(rows), math.prod(columns))
    torch.testing.assert_close(actual, tt_einsum(cores), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rows", "columns", "bonds"), TT_MATRICES.values(), ids=TT_MATRICES)
def test_tt_matrix_stores_as_many_numbers_as_the_cores_have(
    rows: tuple[int, ...], columns: tuple[int, ...], bonds: tuple[int, ...]
) -> None:
    ends = [1, *bonds, 1]
    structure = tt_matrix(rows, columns, bonds)
    assert structure.parameters == sum(ends[k] * rows[k] * columns[k] * ends[k + 1] for k in range(len(rows)))
    assert structure.size == math.prod(rows) * math.prod(columns)
    assert (structure.depth, structure.activation) == (1, "none")


def test_tt_matrix_hands_each_bond_on_in_the_first_sites_of_the_next_core() -> None:
    structure = tt_matrix(rows=(4, 5, 6), columns=(8, 5, 10), bonds=(5, 12))
    assert structure.dims == (4, 8, 5, 5, 6, 2, 5)
    assert structure.tn_layers == (((0, 3), (2, 6), (4, 7)),)
    assert structure.order == (0, 2, 4, 1, 3, 5, 6)
    assert structure.gate_shapes == ((32 * 5, 1), (25 * 12, 5), (60, 12))
