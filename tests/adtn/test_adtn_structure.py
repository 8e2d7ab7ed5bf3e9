import pytest

from adtn.arrangements import brick_wall
from adtn.errors import StructureError
from adtn.structure import ACTIVATIONS, Structure, Sum, structure_from_json

TWO = brick_wall(4, 1)
THREE = Structure((4, 4), (((0, 2),), ((1, 2),)), "tanh", (1, 0))


@pytest.mark.parametrize(("depth", "count"), [(1, 372), (2, 996), (3, 1620)])
def test_first_gates_store_only_the_columns_that_matter(depth: int, count: int) -> None:
    assert sum(brick_wall(sites, depth).parameters for sites in (12, 14, 16)) == count


def test_a_gate_over_touched_and_untouched_sites_has_input_dimension_one_on_the_untouched() -> None:
    structure = Structure((2, 3, 5), (((0, 2), (1, 3)), ((0, 3),)))
    assert structure.gate_shapes == ((6, 1), (15, 3), (30, 30))
    assert structure.parameters == 6 + 45 + 900
    assert (structure.sites, structure.depth, structure.gate_sites, structure.size) == (3, 2, 3, 30)
    assert structure.summary() == {"sites": 3, "depth": 2, "gate_sites": 3, "activation": "relu"}


def test_the_natural_order_is_the_default() -> None:
    structure = Structure((2, 3, 5), (((0, 3),),))
    assert structure.order == (0, 1, 2)
    assert structure.shape == (2, 3, 5)
    assert structure == Structure((2, 3, 5), (((0, 3),),), "relu", (0, 1, 2))


def test_the_tensor_has_its_sites_in_the_given_order_and_gates_stay_as_they_are() -> None:
    structure = Structure((2, 3, 5), (((0, 2), (1, 3)),), "relu", (2, 0, 1))
    assert structure.shape == (5, 2, 3)
    assert structure.gate_shapes == ((6, 1), (15, 3))
    assert structure != Structure((2, 3, 5), (((0, 2), (1, 3)),))


def test_a_sum_has_the_gates_of_its_terms_one_after_the_other() -> None:
    both = Sum((TWO, THREE))
    assert both.gate_shapes == ((4, 1), (4, 1), (4, 4), (16, 1), (4, 4))
    assert both.gates == TWO.gates + THREE.gates
    assert both.parameters == TWO.parameters + THREE.parameters == 24 + 32
    assert (both.size, both.depth) == (16, 2)
    assert both.summary() == {"terms": [TWO.summary(), THREE.summary()]}


def test_a_structure_is_read_like_a_sum_of_one() -> None:
    assert TWO.terms == (TWO,)
    assert Sum((TWO, THREE)).terms == (TWO, THREE)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ((), "terms: expected at least 2, got 0"),
        ((TWO,), "terms: expected at least 2, got 1"),
        ((TWO, THREE, brick_wall(5)), r"terms\[2\]: expected the size of terms\[0\], 16, got 32"),
    ],
)
def test_a_sum_of_too_few_or_unequal_terms_is_refused(terms: tuple[Structure, ...], message: str) -> None:
    with pytest.raises(StructureError, match=message):
        Sum(terms)


@pytest.mark.parametrize(
    "structure",
    [
        brick_wall(7, 3, 3, "gelu"),
        Structure((2, 3), (((0, 2),), ((1, 2), (0, 1)))),
        Structure((2, 3, 2), (((0, 3),),), "none", (1, 2, 0)),
        Sum((TWO, THREE)),
    ],
)
def test_structures_and_sums_survive_json(structure: Structure | Sum) -> None:
    assert structure_from_json(structure.to_json()) == structure
    assert hash(structure_from_json(structure.to_json())) == hash(structure)


def test_json_holds_an_order_only_where_it_is_not_the_natural_one() -> None:
    without = {"dims": [2, 3], "tn_layers": [[[0, 2]]], "activation": "relu"}
    assert Structure((2, 3), (((0, 2),),), "relu", (0, 1)).to_json() == without
    assert Structure((2, 3), (((0, 2),),), "relu", (1, 0)).to_json() == without | {"order": [1, 0]}
    assert Structure.from_json(without).order == (0, 1)
    assert Structure.from_json(without | {"order": [0, 1]}) == Structure.from_json(without)


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


@pytest.mark.parametrize("order", [(0,), (0, 1, 1), (0, 1, 3), (-1, 0, 1), (0, 1, 2, 3), (0.0, 1, 2), (False, True, 2)])
def test_an_order_that_does_not_name_each_site_once_is_refused(order: tuple) -> None:
    with pytest.raises(StructureError, match=r"order: expected each site of 0 \.\. 2 once, got \["):
        Structure((2, 2, 2), (((0, 3),),), "relu", order)


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
        {"dims": [2], "tn_layers": [[[0, 1]]], "activation": "relu", "more": [0]},
        {"dims": [2], "tn_layers": [[[0, 1]]], "activation": "relu", "order": 0},
        {"dims": [2], "tn_layers": [[[0, 1]]], "activation": "relu", "order": "0"},
        {"dims": [2], "tn_layers": [[[0, 1]]], "activation": "relu", "order": [[0]]},
        {"dims": [2, 2], "tn_layers": [[[0, 2]]], "order": [1, 0]},
        {"dims": "22", "tn_layers": [[[0, 2]]], "activation": "relu"},
        {"dims": [True, 2], "tn_layers": [[[0, 2]]], "activation": "relu"},
    ],
)
def test_json_that_is_no_structure_is_refused(data: object) -> None:
    with pytest.raises(StructureError):
        Structure.from_json(data)  # type: ignore[arg-type]
    with pytest.raises(StructureError):
        structure_from_json(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"terms": [TWO.to_json(), THREE.to_json()], "order": [0]}, "a list of terms and nothing else"),
        ({"terms": 2}, "a list of terms and nothing else"),
        ({"terms": "ab"}, "a list of terms and nothing else"),
        ({"terms": [TWO.to_json()]}, "at least 2, got 1"),
        ({"terms": [TWO.to_json(), brick_wall(5).to_json()]}, r"terms\[1\]: expected the size"),
        ({"terms": [TWO.to_json(), {}]}, r"terms\[1\]: structure: expected an object"),
        ({"terms": [{"terms": [TWO.to_json(), TWO.to_json()]}, TWO.to_json()]}, r"terms\[0\]: structure: expected an"),
    ],
)
def test_json_that_is_no_sum_says_what_and_where(data: dict, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        structure_from_json(data)


def test_a_tensor_has_at_most_2_to_the_48_entries() -> None:
    assert Structure((2,) * 48, (((0, 48),),)).size == Structure((2**48,), (((0, 1),),)).size == 2**48
    with pytest.raises(StructureError, match=r"dims: expected a product of at most 2\^48, got \[281474976710657\]"):
        Structure((2**48 + 1,), (((0, 1),),))


def test_so_many_sites_are_refused_before_their_gates_are_looked_at() -> None:
    """Or the work would grow with the sites times the gates, and a file says little for many of both."""
    with pytest.raises(StructureError, match=r"dims: expected a product of at most 2\^48, got \[2, 2, .*\.\.\."):
        Structure((2,) * 49, (((0, 50),),))


def test_an_unknown_activation_lists_the_known_ones() -> None:
    with pytest.raises(StructureError, match=r"none, relu, leaky_relu, tanh, gelu, got 'swish'"):
        brick_wall(4, activation="swish")  # type: ignore[arg-type]
    assert len(ACTIVATIONS) == 5
