import pytest

from adtn.errors import StructureError
from adtn.structure import ACTIVATIONS, Structure, brick_wall, sites_for


def test_brick_wall_of_two_site_gates_has_even_then_odd_pairs() -> None:
    assert brick_wall(5, depth=2).tn_layers == (((0, 2), (2, 4), (1, 3), (3, 5)),) * 2


def test_brick_wall_shifts_the_second_row_by_half_a_gate_and_clips_at_the_end() -> None:
    assert brick_wall(10, depth=1, gate_sites=4).tn_layers == (((0, 4), (4, 8), (8, 10), (2, 6), (6, 10)),)


@pytest.mark.parametrize("sites", [1, 2, 3, 4])
def test_no_more_sites_than_a_gate_holds_make_one_gate_a_tn_layer(sites: int) -> None:
    assert brick_wall(sites, depth=3, gate_sites=4).tn_layers == (((0, sites),),) * 3


@pytest.mark.parametrize("gate_sites", [2, 3, 4, 5])
@pytest.mark.parametrize("sites", range(2, 20))
def test_no_gate_of_a_brick_wall_holds_a_single_site_and_every_tn_layer_touches_all(
    sites: int, gate_sites: int
) -> None:
    for layer in brick_wall(sites, 2, gate_sites).tn_layers:
        assert all(2 <= stop - start <= gate_sites for start, stop in layer)
        assert {site for start, stop in layer for site in range(start, stop)} == set(range(sites))


@pytest.mark.parametrize(("depth", "count"), [(1, 372), (2, 996), (3, 1620)])
def test_first_gates_store_only_the_columns_that_matter(depth: int, count: int) -> None:
    assert sum(brick_wall(sites, depth).parameters for sites in (12, 14, 16)) == count


def test_a_gate_over_touched_and_untouched_sites_has_input_dimension_one_on_the_untouched() -> None:
    structure = Structure((2, 3, 5), (((0, 2), (1, 3)), ((0, 3),)))
    assert structure.gate_shapes == ((6, 1), (15, 3), (30, 30))
    assert structure.parameters == 6 + 45 + 900
    assert (structure.sites, structure.depth, structure.gate_sites, structure.size) == (3, 2, 3, 30)


@pytest.mark.parametrize(
    ("shape", "sites"),
    [((1,), 1), ((2,), 1), ((3,), 2), ((120, 400), 16), ((16, 6, 5, 5), 12), ((2**20,), 20), ((), 1)],
)
def test_sites_for_is_the_fewest_binary_sites_that_hold_the_shape(shape: tuple[int, ...], sites: int) -> None:
    assert sites_for(shape) == sites


def test_a_shape_without_entries_is_refused() -> None:
    with pytest.raises(StructureError, match="at least one entry"):
        sites_for((3, 0))


@pytest.mark.parametrize("structure", [brick_wall(7, 3, 3, "gelu"), Structure((2, 3), (((0, 2),), ((1, 2), (0, 1))))])
def test_structure_survives_json(structure: Structure) -> None:
    assert Structure.from_json(structure.to_json()) == structure
    assert hash(Structure.from_json(structure.to_json())) == hash(structure)


@pytest.mark.parametrize(
    ("dims", "tn_layers", "message"),
    [
        ((), (((0, 1),),), "at least one site"),
        ((2, 1), (((0, 2),),), r"dims\[1\].*at least 2, got 1"),
        ((2, 2.0), (((0, 2),),), r"dims\[1\]"),
        ((2, 2), (), "at least one TN layer"),
        ((2, 2), (((0, 2),), ()), r"tn_layers\[1\].*at least one gate"),
        ((2, 2), (((0, 3),),), r"tn_layers\[0\]\[0\].*<= 2, got \[0, 3\]"),
        ((2, 2), (((0, 2), (1, 1)),), r"tn_layers\[0\]\[1\]"),
        ((2, 2, 2), (((0, 1),), ((0, 2),)), r"none touches \[2\]"),
    ],
)
def test_an_invalid_structure_says_what_and_where(dims: tuple, tn_layers: tuple, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        Structure(dims, tn_layers)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"dims": [2]},
        {"dims": 2, "tn_layers": [[[0, 1]]], "activation": "relu"},
        {"dims": [2], "tn_layers": [[0, 1]], "activation": "relu"},
        {"dims": [2], "tn_layers": [[[0, 1, 2]]], "activation": "relu"},
        {"dims": [2], "tn_layers": [[[0, 1]]], "activation": ["relu"]},
        {"dims": [2], "tn_layers": [[[0, 1]]], "activation": "relu", "order": [0]},
        {"dims": "22", "tn_layers": [[[0, 2]]], "activation": "relu"},
        {"dims": [True, 2], "tn_layers": [[[0, 2]]], "activation": "relu"},
    ],
)
def test_json_that_is_no_structure_is_refused(data: object) -> None:
    with pytest.raises(StructureError):
        Structure.from_json(data)  # type: ignore[arg-type]


def test_an_unknown_activation_lists_the_known_ones() -> None:
    with pytest.raises(StructureError, match=r"none, relu, leaky_relu, tanh, gelu, got 'swish'"):
        brick_wall(4, activation="swish")  # type: ignore[arg-type]
    assert len(ACTIVATIONS) == 5


@pytest.mark.parametrize(("sites", "depth", "gate_sites"), [(0, 1, 2), (4, 0, 2), (4, 1, 1), ((), 1, 2)])
def test_numbers_out_of_range_are_refused(sites: int, depth: int, gate_sites: int) -> None:
    with pytest.raises(StructureError, match="expected at least"):
        brick_wall(sites, depth, gate_sites)
